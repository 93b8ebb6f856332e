//! Why a node does not speak with another: a code for programs and a sentence for people.

use super::handshake::Hello;
use super::introduction::{Introduction, LEVEL_MIN};
use std::fmt;

/// Bytes of a sentence on the wire; longer ones are cut.
pub(super) const SENTENCE_BYTES_MAX: usize = 1_024;

/// What a refusal is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum RefusalCode {
    /// The nodes belong to different clusters.
    OtherCluster,
    /// The address leads to another node, or to another incarnation, than was expected.
    WrongNode,
    /// The identity is retired, or that of an impostor.
    NotAdmitted,
    /// The other node's protocol is too old.
    TooOld,
    /// Not now: try again soon.
    NotReady,
    /// What came on the connection makes no sense.
    Malformed,
    /// The disk of the one who is refused was given up for good: it may stop, since no node of the cluster will ever speak
    /// with it.
    Retired,
    /// A code that this build does not know.
    Other(u16),
}

/// A refusal.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{sentence}")]
pub struct Refusal {
    pub code: RefusalCode,
    /// What is wrong and what to do, in one sentence.
    pub sentence: String,
}

impl RefusalCode {
    pub(super) fn to_wire(self) -> u16 {
        match self {
            RefusalCode::OtherCluster => 1,
            RefusalCode::WrongNode => 2,
            RefusalCode::NotAdmitted => 3,
            RefusalCode::TooOld => 4,
            RefusalCode::NotReady => 5,
            RefusalCode::Malformed => 6,
            RefusalCode::Retired => 7,
            RefusalCode::Other(code) => code,
        }
    }

    pub(super) fn from_wire(code: u16) -> RefusalCode {
        match code {
            1 => RefusalCode::OtherCluster,
            2 => RefusalCode::WrongNode,
            3 => RefusalCode::NotAdmitted,
            4 => RefusalCode::TooOld,
            5 => RefusalCode::NotReady,
            6 => RefusalCode::Malformed,
            7 => RefusalCode::Retired,
            other => RefusalCode::Other(other),
        }
    }

    /// Whether it passes by itself, so that the link tries again as after any failure.
    pub fn is_transient(self) -> bool {
        self == RefusalCode::NotReady
    }
}

impl Refusal {
    pub fn new(code: RefusalCode, sentence: impl fmt::Display) -> Refusal {
        let sentence = sentence.to_string();
        Refusal { code, sentence }
    }

    /// The other's identity is retired, or that of an impostor.
    pub fn not_admitted(sentence: impl fmt::Display) -> Refusal {
        Refusal::new(RefusalCode::NotAdmitted, sentence)
    }

    /// The other's disk was given up for good.
    pub fn retired(sentence: impl fmt::Display) -> Refusal {
        Refusal::new(RefusalCode::Retired, sentence)
    }

    /// The node cannot speak yet, has no room now, or has given up a connection that another one may replace.
    pub fn not_ready(sentence: impl fmt::Display) -> Refusal {
        Refusal::new(RefusalCode::NotReady, sentence)
    }

    pub(super) fn too_old(level: u16) -> Refusal {
        let sentence = format!(
            "the protocol between nodes is needed at level {LEVEL_MIN} or above, you speak level \
             {level}: upgrade that node first"
        );
        Refusal::new(RefusalCode::TooOld, sentence)
    }
}

/// What the one who is called says to the caller's hello, before its host is asked.
pub(super) fn judge_hello(me: &Introduction, hello: &Hello) -> Result<(), Refusal> {
    let who = &hello.who;
    same_cluster(me, who)?;
    if who.level < LEVEL_MIN {
        return Err(Refusal::too_old(who.level));
    }
    expected(hello.expects_node, hello.expects_incarnation, me)?;
    if who.node == me.node {
        let node = me.node;
        return Err(Refusal::not_admitted(format!(
            "node {node} is this node: another node has the same id, or an address leads back to \
             its own node; give each node an id of its own"
        )));
    }
    Ok(())
}

/// What the caller says to the welcome.
pub(super) fn judge_welcome(
    me: &Introduction,
    expects_node: i32,
    expects_incarnation: Option<u32>,
    host: &Introduction,
) -> Result<(), Refusal> {
    same_cluster(me, host)?;
    if host.level < LEVEL_MIN {
        return Err(Refusal::too_old(host.level));
    }
    expected(expects_node, expects_incarnation, host)
}

fn same_cluster(me: &Introduction, other: &Introduction) -> Result<(), Refusal> {
    if me.cluster_id.is_empty() {
        return Err(Refusal::not_ready("this node is looking for its cluster"));
    }
    if me.cluster_id == other.cluster_id {
        return Ok(());
    }
    let (mine, yours) = (&me.cluster_id, &other.cluster_id);
    let sentence = format!(
        "this node belongs to cluster {mine}, you belong to {yours}: check the addresses of the \
         voters, and that each node has its own data directory"
    );
    Err(Refusal::new(RefusalCode::OtherCluster, sentence))
}

fn expected(node: i32, incarnation: Option<u32>, reached: &Introduction) -> Result<(), Refusal> {
    let wrong = |sentence: String| Err(Refusal::new(RefusalCode::WrongNode, sentence));
    if node != reached.node {
        let reached = reached.node;
        return wrong(format!(
            "expected node {node}, reached node {reached}: check the addresses"
        ));
    }
    match incarnation {
        Some(incarnation) if incarnation != reached.incarnation => wrong(format!(
            "expected node {node} with the disk of incarnation {incarnation}, reached it with \
             that of incarnation {}: it has lost its data, or an old disk has come back",
            reached.incarnation
        )),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(node: i32) -> Introduction {
        Introduction {
            cluster_id: "blue".into(),
            node,
            incarnation: 7,
            start: storage::Start::default(),
            cores: 2,
            level: 1,
        }
    }

    fn hello(who: Introduction, expects_node: i32) -> Hello {
        Hello {
            who,
            core: 0,
            expects_node,
            expects_incarnation: None,
        }
    }

    #[test]
    fn a_stranger_is_told_what_is_wrong() {
        let judge = |hello: &Hello| judge_hello(&node(2), hello);
        assert_eq!(judge(&hello(node(1), 2)), Ok(()));
        let refused = |hello: Hello, code, part: &str| {
            let refusal = judge(&hello).unwrap_err();
            assert_eq!(refusal.code, code);
            assert!(refusal.sentence.contains(part), "{refusal}");
        };
        let mut other = node(1);
        other.cluster_id = "red".into();
        let part = "this node belongs to cluster blue, you belong to red: ";
        refused(hello(other, 2), RefusalCode::OtherCluster, part);
        let part = "expected node 3, reached node 2: check the addresses";
        refused(hello(node(1), 3), RefusalCode::WrongNode, part);
        refused(hello(node(2), 2), RefusalCode::NotAdmitted, "the same id");
        let mut old = node(1);
        old.level = 0;
        refused(hello(old, 2), RefusalCode::TooOld, "you speak level 0");
        let mut stale = hello(node(1), 2);
        stale.expects_incarnation = Some(7);
        assert_eq!(judge(&stale), Ok(()));
        stale.expects_incarnation = Some(6);
        refused(stale, RefusalCode::WrongNode, "that of incarnation 7");
    }

    #[test]
    fn whoever_calls_looks_at_who_answers() {
        let judge = |host: &Introduction| judge_welcome(&node(1), 2, Some(7), host);
        assert_eq!(judge(&node(2)), Ok(()));
        assert_eq!(judge(&node(3)).unwrap_err().code, RefusalCode::WrongNode);
        let changed = |change: fn(&mut Introduction)| {
            let mut host = node(2);
            change(&mut host);
            judge(&host).unwrap_err().code
        };
        let code = changed(|host| host.cluster_id = "red".into());
        assert_eq!(code, RefusalCode::OtherCluster);
        assert_eq!(changed(|host| host.incarnation = 8), RefusalCode::WrongNode);
        assert_eq!(changed(|host| host.level = 0), RefusalCode::TooOld);
    }

    #[test]
    fn codes_survive_the_wire() {
        for wire in 0..100 {
            assert_eq!(RefusalCode::from_wire(wire).to_wire(), wire);
        }
        assert!(RefusalCode::NotReady.is_transient());
        assert!(!RefusalCode::Other(99).is_transient());
    }
}
