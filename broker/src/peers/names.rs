//! From `host:port` to addresses. A name is resolved by the system, which blocks, so no core does it: a thread of
//! the process around the node serves a [`NameDesk`]. What is an address already asks nobody; a node whose peers all
//! have addresses, and the simulator, need no desk.

use crate::config::Endpoint;
use std::collections::BTreeSet;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::mpsc;
use tokio::sync::oneshot;

/// Questions that may wait for the desk. Each link has one at most, and gives it up after a while.
const QUESTIONS_MAX: usize = 1_024;

/// Why an address leads nowhere.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{address} cannot be resolved: {reason}")]
pub struct Unresolved {
    pub address: String,
    pub reason: String,
}

/// Resolves addresses. Clones ask the same desk; may be sent to other cores.
#[derive(Clone, Default)]
pub struct Names(Option<mpsc::SyncSender<Question>>);

/// The end that blocks.
pub struct NameDesk(mpsc::Receiver<Question>);

/// The addresses, or why there are none.
type Answer = Result<Vec<SocketAddr>, String>;

struct Question {
    endpoint: Endpoint,
    answer: oneshot::Sender<Answer>,
}

impl Names {
    /// Knows addresses only, and no names.
    pub fn literal() -> Names {
        Names(None)
    }

    /// Asks a desk, which [serves](NameDesk::serve) on a thread of its own.
    pub fn asking() -> (Names, NameDesk) {
        let (ask, asked) = mpsc::sync_channel(QUESTIONS_MAX);
        (Names(Some(ask)), NameDesk(asked))
    }

    /// The addresses behind `host:port`, at least one, in the order in which to try them.
    ///
    /// # Errors
    /// It is not an address, or nobody knows the name.
    pub async fn addresses(&self, address: &str) -> Result<Vec<SocketAddr>, Unresolved> {
        let unresolved = |reason: String| Unresolved {
            address: address.to_owned(),
            reason,
        };
        let endpoint = Endpoint::parse(address).map_err(|error| unresolved(error.to_string()))?;
        if let Ok(ip) = endpoint.host.parse::<IpAddr>() {
            return Ok(vec![SocketAddr::new(ip, endpoint.port)]);
        }
        let Some(ask) = &self.0 else {
            return Err(unresolved("only addresses are known here".into()));
        };
        let (answer, answered) = oneshot::channel();
        ask.try_send(Question { endpoint, answer })
            .map_err(|_| unresolved("the system's resolver is behind; trying again".into()))?;
        let addresses = match answered.await {
            Ok(resolved) => resolved.map_err(unresolved)?,
            Err(_) => return Err(unresolved("the node is stopping".into())),
        };
        match addresses.is_empty() {
            true => Err(unresolved("the name has no address".into())),
            false => Ok(addresses),
        }
    }
}

impl NameDesk {
    /// Answers questions until no [`Names`] is left to ask them. Blocks.
    pub fn serve(self) {
        self.serve_by(Endpoint::addresses);
    }

    /// Names that could not be resolved the last time come last: the system may take long to give them up again, and
    /// the links to all other nodes would wait for that.
    fn serve_by(self, mut resolve: impl FnMut(&Endpoint) -> io::Result<Vec<SocketAddr>>) {
        let mut failed: BTreeSet<Endpoint> = BTreeSet::new();
        let mut waiting: Vec<Question> = Vec::new();
        loop {
            if waiting.is_empty() {
                match self.0.recv() {
                    Ok(question) => waiting.push(question),
                    Err(mpsc::RecvError) => return,
                }
            }
            waiting.extend(self.0.try_iter());
            // Whoever has given up would only make the others wait.
            waiting.retain(|question| !question.answer.is_closed());
            let is_new = |question: &Question| !failed.contains(&question.endpoint);
            let next = waiting.iter().position(is_new).unwrap_or(0);
            if next >= waiting.len() {
                continue;
            }
            let Question { endpoint, answer } = waiting.remove(next);
            let resolved = resolve(&endpoint);
            if resolved.is_ok() {
                failed.remove(&endpoint);
            } else if failed.len() < QUESTIONS_MAX {
                failed.insert(endpoint);
            }
            let _ = answer.send(resolved.map_err(|error| error.to_string()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use runtime::sim::{Options, Sim};
    use std::time::Duration;

    /// What an address resolves to; the desk is served by the test's thread once the question is asked.
    fn ask(names: Names, address: &'static str) -> Result<Vec<SocketAddr>, Unresolved> {
        let sim = Sim::new(Options::seeded(1));
        let (tell, told) = mpsc::channel();
        let asker = sim.client("asker", move |_| async move {
            tell.send(names.addresses(address).await).expect("heard");
        });
        assert!(sim.run_until_done(asker, Duration::from_secs(1)));
        told.recv().expect("an answer")
    }

    #[test]
    fn an_address_is_its_own() {
        let expected = |text: &str| Ok(vec![text.parse().expect("an address")]);
        let literal = |text| ask(Names::literal(), text);
        assert_eq!(literal("10.0.0.1:9192"), expected("10.0.0.1:9192"));
        assert_eq!(literal("[::1]:9192"), expected("[::1]:9192"));
        for (text, part) in [("node-2:9192", "only addresses"), ("node-2", "host:port")] {
            let sentence = literal(text).unwrap_err().to_string();
            assert!(sentence.contains(part), "{sentence}");
        }
    }

    #[test]
    fn a_name_is_asked_of_the_desk() {
        let (names, desk) = Names::asking();
        let thread = std::thread::spawn(move || desk.serve());
        let sim = Sim::new(Options::seeded(1));
        let (tell, told) = mpsc::channel();
        let asked = names.clone();
        sim.client("asker", move |_| async move {
            let resolved = asked.addresses("localhost:9192").await;
            tell.send(resolved).expect("heard");
        });
        sim.run_for(Duration::from_millis(1));
        drop(names);
        // The answer comes from another thread, which virtual time does not wait for.
        let resolved = loop {
            sim.run_for(Duration::from_millis(1));
            if let Ok(resolved) = told.try_recv() {
                break resolved.expect("every machine knows itself");
            }
            std::thread::yield_now();
        };
        assert!(resolved.iter().all(|address| address.ip().is_loopback()));
        assert!(resolved.iter().all(|address| address.port() == 9192));
        drop(sim);
        thread.join().expect("it ends when nobody can ask");
    }

    #[test]
    fn a_name_that_fails_does_not_make_the_others_wait() {
        let (ask, asked) = mpsc::sync_channel(QUESTIONS_MAX);
        let mut answers = Vec::new();
        let mut put = |ask: &mpsc::SyncSender<Question>, address: &str| {
            let (answer, answered) = oneshot::channel();
            let endpoint = Endpoint::parse(address).expect("an address");
            let question = Question { endpoint, answer };
            assert!(ask.try_send(question).is_ok(), "there is room");
            answers.push(answered);
        };
        put(&ask, "bad:1");
        let mut ask = Some(ask);
        let mut order = Vec::new();
        NameDesk(asked).serve_by(|endpoint| {
            // All others are asked while the first one is looked for.
            if let Some(ask) = ask.take() {
                for address in ["bad:1", "good:1", "bad:1", "good:2"] {
                    put(&ask, address);
                }
            }
            order.push(endpoint.to_string());
            match endpoint.host.as_str() {
                "good" => Ok(vec![SocketAddr::from(([10, 0, 0, 1], endpoint.port))]),
                _ => Err(io::ErrorKind::NotFound.into()),
            }
        });
        assert_eq!(order, ["bad:1", "good:1", "good:2", "bad:1", "bad:1"]);
        let is_good =
            |mut answer: oneshot::Receiver<Answer>| answer.try_recv().expect("sent").is_ok();
        let good: Vec<bool> = answers.into_iter().map(is_good).collect();
        assert_eq!(good, [false, false, true, false, true]);
    }

    #[test]
    fn without_a_desk_nobody_waits() {
        let (names, desk) = Names::asking();
        drop(desk);
        assert!(ask(names, "node-2:9192").is_err());
    }
}
