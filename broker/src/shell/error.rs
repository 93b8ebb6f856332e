//! What can go wrong in a command, as one sentence and a remedy.

use std::io;
use std::path::PathBuf;

use protocol::ErrorCode;

use crate::config::ConfigError;

/// The failure of a command.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ShellError {
    #[error(
        "cannot connect to {address}: {}. Start a broker with `corelane start`, or name one that \
         runs with --bootstrap HOST:PORT.",
        plain(error)
    )]
    Unreachable { address: String, error: io::Error },
    #[error(
        "cannot connect to node {node} at {address}: {}. That is the address that it advertises; \
         correct its advertised.listeners if clients cannot reach it there.",
        plain(error)
    )]
    NodeUnreachable {
        node: i32,
        address: String,
        error: io::Error,
    },
    #[error(
        "the connection to {address} broke: {}. The broker's log may say why; try again.",
        plain(error)
    )]
    Lost { address: String, error: io::Error },
    #[error("{address} does not answer like a Kafka broker ({what}). Is the port right?")]
    Garbled { address: String, what: String },
    #[error(
        "{address} does not serve {api} in a version that this program speaks. Use a newer broker, \
         or the program that came with it."
    )]
    Unsupported { address: String, api: &'static str },
    #[error("cannot {what}: {reason}{}", remedy(*code))]
    Refused {
        what: String,
        code: ErrorCode,
        reason: String,
    },
    #[error("cannot {what}: {reason}")]
    Impossible { what: String, reason: String },
    /// Everything went well but the cluster; the output says what is wrong.
    #[error("the cluster is degraded: {reasons} thing(s) are wrong, as told above.")]
    Degraded { reasons: usize },
    #[error("cannot read {}: {}", path.display(), plain(error))]
    File { path: PathBuf, error: io::Error },
    #[error("cannot read the standard input: {}", plain(.0))]
    Input(io::Error),
    #[error("cannot write the output: {}", plain(.0))]
    Output(#[from] io::Error),
    #[error("{0}")]
    Config(#[from] ConfigError),
}

impl ShellError {
    /// The answer of a broker that did not do `what`.
    pub(crate) fn refused(
        what: impl Into<String>,
        code: ErrorCode,
        message: Option<&str>,
    ) -> ShellError {
        let reason = match message.filter(|message| !message.is_empty()) {
            Some(message) => format!("{} ({})", message.trim_end_matches('.'), code.name()),
            None => format!(
                "{} ({})",
                code.description().trim_end_matches('.'),
                code.name()
            ),
        };
        ShellError::Refused {
            what: what.into(),
            code,
            reason: reason + ".",
        }
    }

    /// Something that the command sees for itself.
    pub(crate) fn impossible(what: impl Into<String>, reason: impl Into<String>) -> ShellError {
        ShellError::Impossible {
            what: what.into(),
            reason: reason.into(),
        }
    }

    pub(crate) fn is_broken_pipe(&self) -> bool {
        matches!(self, ShellError::Output(error) if error.kind() == io::ErrorKind::BrokenPipe)
    }
}

/// Turns the code of an answer into a result.
pub(crate) fn check(
    what: impl FnOnce() -> String,
    code: ErrorCode,
    message: Option<&str>,
) -> Result<(), ShellError> {
    match code.is_none() {
        true => Ok(()),
        false => Err(ShellError::refused(what(), code, message)),
    }
}

/// What the operator can do about it, where that is not obvious. Begins with a blank.
fn remedy(code: ErrorCode) -> &'static str {
    match code {
        ErrorCode::UNKNOWN_TOPIC_OR_PARTITION => {
            " `corelane topic list` shows the topics, `corelane topic create` makes one."
        }
        ErrorCode::TOPIC_ALREADY_EXISTS => " Use --if-not-exists if that is fine.",
        ErrorCode::INVALID_REPLICATION_FACTOR => {
            " `corelane cluster status` shows how many nodes there are."
        }
        ErrorCode::NON_EMPTY_GROUP => " Stop its consumers first.",
        ErrorCode::GROUP_ID_NOT_FOUND => " `corelane group list` shows the groups.",
        ErrorCode::INVALID_CONFIG => " docs/configuration.md lists what can be set.",
        ErrorCode::NOT_ENOUGH_REPLICAS | ErrorCode::LEADER_NOT_AVAILABLE => {
            " `corelane cluster status` shows which nodes live."
        }
        ErrorCode::TOPIC_DELETION_DISABLED => {
            " Start the brokers with delete.topic.enable=true to allow it."
        }
        ErrorCode::MESSAGE_TOO_LARGE | ErrorCode::RECORD_LIST_TOO_LARGE => {
            " Raise max.message.bytes of the topic, or send smaller records."
        }
        _ => "",
    }
}

/// An I/O error without the number of the operating system.
pub(super) fn plain(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => "connection refused".to_owned(),
        io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock => "no answer in time".to_owned(),
        io::ErrorKind::UnexpectedEof => "the broker closed it".to_owned(),
        io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe => {
            "the broker closed it".to_owned()
        }
        io::ErrorKind::NotFound => "no such file or directory".to_owned(),
        _ => {
            let text = error.to_string();
            match text.find(" (os error") {
                Some(end) => text[..end].to_lowercase(),
                None => text,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refused_connection_names_the_address_and_the_remedy() {
        let error = io::Error::from(io::ErrorKind::ConnectionRefused);
        let text = ShellError::Unreachable {
            address: "localhost:9092".into(),
            error,
        }
        .to_string();
        assert!(
            text.starts_with("cannot connect to localhost:9092: connection refused."),
            "{text}"
        );
        assert!(
            text.contains("corelane start") && text.contains("--bootstrap"),
            "{text}"
        );
    }

    #[test]
    fn a_brokers_own_words_come_with_the_codes_name() {
        let code = ErrorCode::UNKNOWN_TOPIC_OR_PARTITION;
        let text = ShellError::refused("delete topic t", code, None).to_string();
        assert!(text.starts_with("cannot delete topic t: "), "{text}");
        assert!(
            text.contains("(UNKNOWN_TOPIC_OR_PARTITION). `corelane topic list`"),
            "{text}"
        );
        let text = ShellError::refused(
            "alter t",
            ErrorCode::INVALID_CONFIG,
            Some("x is no number."),
        );
        assert!(
            text.to_string()
                .contains("x is no number (INVALID_CONFIG)."),
            "{text}"
        );
    }

    #[test]
    fn numbers_of_the_system_stay_out() {
        let error = io::Error::from_raw_os_error(113);
        assert!(!plain(&error).contains("os error"), "{}", plain(&error));
    }
}
