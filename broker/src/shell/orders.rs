//! Orders to a node on this machine, by its admin listener: what Kafka's protocol has no words for.
//!
//! One request, one answer, one connection. Deliberately absent: everything else of HTTP.

use std::io::{self, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::Duration;

use serde_json::Value;

use super::arguments::{AdminArguments, LossArguments};
use super::error::{ShellError, plain};

const CONNECT_WITHIN: Duration = Duration::from_secs(5);
/// Longer than a node takes for any order.
const ANSWER_WITHIN: Duration = Duration::from_secs(60);
/// More than any answer has.
const ANSWER_BYTES_MAX: u64 = 16 << 20;

/// An order under way to its words.
pub(crate) struct Order {
    what: String,
    path: String,
}

impl Order {
    /// `what` completes the sentence "cannot ...".
    pub(crate) fn new(what: impl Into<String>, path: &str) -> Order {
        Order {
            what: what.into(),
            path: path.to_owned(),
        }
    }

    pub(crate) fn with(mut self, name: &str, value: &str) -> Order {
        let before = if self.path.contains('?') { '&' } else { '?' };
        self.path.push(before);
        self.path.push_str(name);
        self.path.push('=');
        self.path.push_str(&escaped(value));
        self
    }

    /// Says which nodes are lost, who says so, and whether that is accepted.
    pub(crate) fn with_loss(self, loss: &LossArguments) -> Order {
        let lost: Vec<String> = loss.lost.iter().map(i32::to_string).collect();
        let by = loss.by.clone().unwrap_or_else(user);
        let order = self.with("lost", &lost.join(",")).with("by", &by);
        match loss.accept_data_loss {
            true => order.with("accept-data-loss", "true"),
            false => order,
        }
    }

    /// Gives the order and reads what has come of it.
    pub(crate) fn give(self, arguments: &AdminArguments) -> Result<Value, ShellError> {
        let address = &arguments.admin;
        let answer = exchange(address, &self.path).map_err(|error| {
            let reason = format!(
                "the admin listener at {address} gives no answer: {}. Orders are given on the machine of a node; --admin \
                 HOST:PORT names its corelane.admin.listener.",
                plain(&error)
            );
            ShellError::impossible(&*self.what, reason)
        })?;
        let (status, body) = read(&answer).ok_or_else(|| {
            let reason =
                format!("{address} does not answer like an admin listener. Is the port right?");
            ShellError::impossible(&*self.what, reason)
        })?;
        let told = (status == 200).then(|| serde_json::from_str(body).ok());
        told.flatten().ok_or_else(|| {
            let reason = body.trim().trim_end_matches('.');
            ShellError::impossible(self.what, format!("{reason}."))
        })
    }
}

fn exchange(address: &str, path: &str) -> io::Result<String> {
    let mut last = io::Error::from(io::ErrorKind::AddrNotAvailable);
    for resolved in address.to_socket_addrs()? {
        match TcpStream::connect_timeout(&resolved, CONNECT_WITHIN) {
            Ok(mut stream) => {
                stream.set_read_timeout(Some(ANSWER_WITHIN))?;
                let head = format!(
                    "POST {path} HTTP/1.1\r\nHost: {address}\r\nCorelane-Order: 1\r\nContent-Length: 0\r\n\
                     Connection: close\r\n\r\n"
                );
                stream.write_all(head.as_bytes())?;
                let mut answer = Vec::new();
                stream.take(ANSWER_BYTES_MAX).read_to_end(&mut answer)?;
                return Ok(String::from_utf8_lossy(&answer).into_owned());
            }
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// Status and body of an answer.
fn read(answer: &str) -> Option<(u16, &str)> {
    let (head, body) = answer.split_once("\r\n\r\n")?;
    let status = head.strip_prefix("HTTP/1.1 ")?.get(..3)?;
    Some((status.parse().ok()?, body))
}

fn escaped(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.,".contains(&byte);
    let one = |byte: u8| match plain(byte) {
        true => char::from(byte).to_string(),
        false => format!("%{byte:02X}"),
    };
    text.bytes().map(one).collect()
}

/// Who sits at this machine, as far as it says.
fn user() -> String {
    let user = std::env::var("SUDO_USER").or_else(|_| std::env::var("USER"));
    let user = user.unwrap_or_else(|_| "somebody".to_owned());
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    format!("{user}@{}", host.trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_order_is_a_path_that_no_name_breaks_out_of() {
        let order = Order::new("try", "/metadata/recover");
        let order = order
            .with("lost", "2,3")
            .with("by", "Ada Löwe&accept-data-loss=true");
        assert_eq!(
            order.path,
            "/metadata/recover?lost=2,3&by=Ada%20L%C3%B6we%26accept-data-loss%3Dtrue"
        );
    }

    #[test]
    fn what_is_not_said_is_not_accepted() {
        let loss = |accept_data_loss| LossArguments {
            lost: vec![2],
            accept_data_loss,
            by: Some("me".to_owned()),
        };
        let order = Order::new("try", "/x").with_loss(&loss(false));
        assert_eq!(order.path, "/x?lost=2&by=me");
        let order = Order::new("try", "/x").with_loss(&loss(true));
        assert_eq!(order.path, "/x?lost=2&by=me&accept-data-loss=true");
    }

    #[test]
    fn answers_are_taken_apart() {
        let answer = "HTTP/1.1 409 Conflict\r\nx: y\r\n\r\nnode 2 runs\n";
        assert_eq!(read(answer), Some((409, "node 2 runs\n")));
        assert_eq!(read("SSH-2.0-OpenSSH\r\n\r\n"), None);
    }

    #[test]
    fn nobody_there_is_one_sentence_with_a_remedy() {
        let free = std::net::TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap();
        let admin = AdminArguments {
            admin: free.to_string(),
        };
        let error = Order::new("transfer t-0", "/x")
            .give(&admin)
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("--admin") && error.lines().count() == 1,
            "{error}"
        );
    }
}
