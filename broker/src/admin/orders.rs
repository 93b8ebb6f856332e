//! Orders of an operator (POST): read from the query of the path, given to the node, answered in JSON.
//!
//! There are neither passwords nor TLS here, so an order is taken only from the machine itself, and only with a header
//! that no page in a browser can send by itself. Names of topics need no escapes; what an operator says of himself has
//! `+` and `%XX` for other characters, as in any query.
//!
//! Must not know what an order does.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

use hyper::{HeaderMap, StatusCode};

use super::cores::Cores;
use crate::cluster::METADATA_CORE;
use crate::observe::Request;
use crate::operate::Order;

/// The longest an order takes, with some seconds for a busy core.
const ORDER_WITHIN: Duration = Duration::from_secs(45);
/// A browser does not send it to another site without asking that site first.
pub(super) const ORDER_HEADER: &str = "corelane-order";
pub(super) const JSON: &str = "application/json";

/// Where orders go, and what they need: for whoever looks what there is.
pub(super) const PATHS: &str = "\
POST /partitions/transfer?topic=NAME&partition=N&to=NODE
POST /partitions/recover?topic=NAME&partition=N&lost=NODE,...&by=WHO[&accept-data-loss=true]
POST /partitions/recoveries
POST /metadata/recover?lost=NODE,...&by=WHO[&accept-data-loss=true]
";

/// What is ordered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Transfer,
    RecoverPartition,
    RecoverMetadata,
    Recoveries,
}

impl Kind {
    pub(super) fn of(path: &str) -> Option<Kind> {
        match path {
            "/partitions/transfer" => Some(Kind::Transfer),
            "/partitions/recover" => Some(Kind::RecoverPartition),
            "/metadata/recover" => Some(Kind::RecoverMetadata),
            "/partitions/recoveries" => Some(Kind::Recoveries),
            _ => None,
        }
    }
}

/// Why an order is not even read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum OrderError {
    #[error("orders are taken from the machine itself only, and {0} is not")]
    Foreign(IpAddr),
    #[error("an order needs the header {ORDER_HEADER}")]
    NoHeader,
    #[error("the order needs {0}")]
    Missing(&'static str),
    #[error("{0} cannot be {1:?}")]
    Malformed(&'static str, String),
}

impl OrderError {
    fn status(&self) -> StatusCode {
        match self {
            OrderError::Foreign(_) | OrderError::NoHeader => StatusCode::FORBIDDEN,
            OrderError::Missing(_) | OrderError::Malformed(..) => StatusCode::BAD_REQUEST,
        }
    }
}

/// What a query says, by name.
struct Query<'a>(&'a str);

impl Query<'_> {
    fn value(&self, name: &'static str) -> Option<String> {
        let pairs = self.0.split('&').filter_map(|pair| pair.split_once('='));
        let mut values = pairs.filter(|(key, _)| *key == name);
        values.next().map(|(_, value)| unescaped(value))
    }

    fn text(&self, name: &'static str) -> Result<String, OrderError> {
        self.value(name).ok_or(OrderError::Missing(name))
    }

    fn number(&self, name: &'static str) -> Result<i32, OrderError> {
        let text = self.text(name)?;
        text.parse().map_err(|_| OrderError::Malformed(name, text))
    }

    fn numbers(&self, name: &'static str) -> Result<BTreeSet<i32>, OrderError> {
        let text = self.value(name).unwrap_or_default();
        let items = text.split(',').filter(|item| !item.is_empty());
        let numbers: Result<BTreeSet<i32>, _> = items.map(str::parse).collect();
        numbers.map_err(|_| OrderError::Malformed(name, text))
    }

    fn flag(&self, name: &'static str) -> bool {
        self.value(name).as_deref() == Some("true")
    }
}

/// `+` is a blank and `%XX` a byte. What does not follow that stands for itself.
fn unescaped(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, more)) = rest.split_first() {
        rest = more;
        let digit = |at: usize| more.get(at).and_then(|byte| (*byte as char).to_digit(16));
        match (*first, digit(0), digit(1)) {
            (b'+', ..) => bytes.push(b' '),
            (b'%', Some(high), Some(low)) => {
                bytes.push((high * 16 + low) as u8);
                rest = &more[2..];
            }
            (other, ..) => bytes.push(other),
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Reads an order, if who sends it may give any.
pub(super) fn read(
    kind: Kind,
    query: &str,
    headers: &HeaderMap,
    from: IpAddr,
) -> Result<Order, OrderError> {
    let query = Query(query);
    if !from.to_canonical().is_loopback() {
        return Err(OrderError::Foreign(from));
    }
    if !headers.contains_key(ORDER_HEADER) {
        return Err(OrderError::NoHeader);
    }
    match kind {
        Kind::Transfer => Ok(Order::Transfer {
            topic: query.text("topic")?,
            partition: query.number("partition")?,
            to: query.number("to")?,
        }),
        Kind::RecoverPartition => Ok(Order::RecoverPartition {
            topic: query.text("topic")?,
            partition: query.number("partition")?,
            lost: query.numbers("lost")?,
            by: query.text("by")?,
            accept_data_loss: query.flag("accept-data-loss"),
        }),
        Kind::RecoverMetadata => Ok(Order::RecoverMetadata {
            lost: query.numbers("lost")?,
            by: query.text("by")?,
            accept_data_loss: query.flag("accept-data-loss"),
        }),
        Kind::Recoveries => Ok(Order::Recoveries),
    }
}

/// Gives an order to the node and waits for what comes of it: 200 with a JSON value, or another status with a sentence.
pub(super) async fn carry_out(
    cores: &Cores,
    order: Result<Order, OrderError>,
) -> (StatusCode, &'static str, String) {
    const PLAIN_TEXT: &str = super::server::PLAIN_TEXT;
    let order = match order {
        Ok(order) => order,
        Err(error) => return (error.status(), PLAIN_TEXT, format!("{error}\n")),
    };
    let ask = |reply| Request::Operate { order, reply };
    let answer = cores.ask_within(METADATA_CORE, ORDER_WITHIN, ask);
    match answer.get().await {
        Some(Ok(told)) => (StatusCode::OK, JSON, format!("{told}\n")),
        Some(Err(reason)) => (StatusCode::CONFLICT, PLAIN_TEXT, format!("{reason}\n")),
        None => {
            let text = "the node did not answer in time: look what has become of it before you try again\n";
            (StatusCode::GATEWAY_TIMEOUT, PLAIN_TEXT, text.to_owned())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

    fn with_header() -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(ORDER_HEADER, "1".parse().expect("a value"));
        headers
    }

    #[test]
    fn an_order_is_read_from_its_path() {
        let query = "topic=a.b_c-1&partition=3&lost=2,4&by=Ada+L%C3%B6we&accept-data-loss=true";
        let read = read(Kind::RecoverPartition, query, &with_header(), HERE);
        let expected = Order::RecoverPartition {
            topic: "a.b_c-1".to_owned(),
            partition: 3,
            lost: BTreeSet::from([2, 4]),
            by: "Ada Löwe".to_owned(),
            accept_data_loss: true,
        };
        assert_eq!(read, Ok(expected));
    }

    #[test]
    fn nothing_is_lost_or_accepted_unless_it_is_said() {
        let query = "topic=t&partition=0&by=me&accept-data-loss=yes";
        let read = read(Kind::RecoverPartition, query, &with_header(), HERE);
        let Ok(Order::RecoverPartition {
            lost,
            accept_data_loss,
            ..
        }) = read
        else {
            panic!("{read:?}");
        };
        assert_eq!((lost, accept_data_loss), (BTreeSet::new(), false));
    }

    #[test]
    fn strangers_give_no_orders() {
        let kind = Kind::of("/partitions/recoveries").expect("an order");
        let mapped: IpAddr = "::ffff:127.0.0.1".parse().expect("an address");
        assert_eq!(
            read(kind, "", &with_header(), mapped),
            Ok(Order::Recoveries)
        );
        let foreign: IpAddr = "10.0.0.7".parse().expect("an address");
        let refused = read(kind, "", &with_header(), foreign);
        assert_eq!(refused, Err(OrderError::Foreign(foreign)));
        assert_eq!(
            read(kind, "", &HeaderMap::new(), HERE),
            Err(OrderError::NoHeader)
        );
    }

    #[test]
    fn what_is_missing_or_makes_no_sense_is_named() {
        let ask = |query| read(Kind::Transfer, query, &with_header(), HERE);
        assert_eq!(ask("topic=t&partition=1"), Err(OrderError::Missing("to")));
        let odd = OrderError::Malformed("to", "two".to_owned());
        assert_eq!(ask("topic=t&partition=1&to=two"), Err(odd));
        let lost = read(
            Kind::RecoverMetadata,
            "lost=1,x&by=me",
            &with_header(),
            HERE,
        );
        assert_eq!(lost, Err(OrderError::Malformed("lost", "1,x".to_owned())));
        assert_eq!(Kind::of("/partitions/delete"), None);
        assert_eq!(unescaped("%4G%"), "%4G%");
    }
}
