//! What can happen to a cluster, by kind. What each does is in `cluster`.

use super::character::Draw;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Fault {
    Kill,
    Stop,
    PowerLoss,
    /// In the middle of a disk operation.
    PowerLossAtOperation,
    PowerLossOfTwo,
    PowerLossOfAll,
    /// A node does nothing for a while, as after SIGSTOP, and does not notice.
    Freeze,
    /// The wall clock of a node jumps, and later back.
    ClockJump,
    Stall,
    SlowDisk,
    /// A disk operation fails; the node is started again.
    FailedOperation,
    /// Two nodes do not hear each other.
    Cut,
    /// One node does not hear the others, nor they it; clients reach it.
    Isolation,
    /// Nobody reaches it.
    IsolationFromAll,
    /// What one node sends to another does not arrive.
    OneWayCut,
    Delay,
    Reset,
    /// The node comes back with an empty directory. Once in a run.
    WipedDisk,
    /// The disk that was replaced is put into the node again, and the new one after that.
    ReturnedDisk,
    /// Bits of what a node has written are flipped while it does not run. Once in a run.
    FlippedBits,
    FullDisk,
}

impl Fault {
    pub const ALL: [Fault; 21] = [
        Fault::Kill,
        Fault::Stop,
        Fault::PowerLoss,
        Fault::PowerLossAtOperation,
        Fault::PowerLossOfTwo,
        Fault::PowerLossOfAll,
        Fault::Freeze,
        Fault::ClockJump,
        Fault::Stall,
        Fault::SlowDisk,
        Fault::FailedOperation,
        Fault::Cut,
        Fault::Isolation,
        Fault::IsolationFromAll,
        Fault::OneWayCut,
        Fault::Delay,
        Fault::Reset,
        Fault::WipedDisk,
        Fault::ReturnedDisk,
        Fault::FlippedBits,
        Fault::FullDisk,
    ];

    /// Whether a disk is not what it was, afterwards.
    pub fn forgets(self) -> bool {
        matches!(
            self,
            Fault::WipedDisk | Fault::ReturnedDisk | Fault::FlippedBits
        )
    }

    pub fn name(self) -> &'static str {
        match self {
            Fault::Kill => "fault: a node is killed",
            Fault::Stop => "fault: a node is stopped",
            Fault::PowerLoss => "fault: a node loses power",
            Fault::PowerLossAtOperation => "fault: a node loses power at an operation",
            Fault::PowerLossOfTwo => "fault: two nodes lose power",
            Fault::PowerLossOfAll => "fault: all nodes lose power",
            Fault::Freeze => "fault: a node is frozen",
            Fault::ClockJump => "fault: a clock jumps",
            Fault::Stall => "fault: a disk stalls",
            Fault::SlowDisk => "fault: a disk is slow",
            Fault::FailedOperation => "fault: a disk operation fails",
            Fault::Cut => "fault: two nodes are cut off from each other",
            Fault::Isolation => "fault: a node is cut off from the others",
            Fault::IsolationFromAll => "fault: a node is cut off from everybody",
            Fault::OneWayCut => "fault: one direction is cut off",
            Fault::Delay => "fault: messages are late",
            Fault::Reset => "fault: connections are reset",
            Fault::WipedDisk => "fault: a disk is wiped",
            Fault::ReturnedDisk => "fault: a disk that was replaced comes back",
            Fault::FlippedBits => "fault: bits are flipped",
            Fault::FullDisk => "fault: a disk is full",
        }
    }
}

/// One kind alone, two, or any number.
pub(super) fn draw_kinds(draw: &mut Draw) -> Vec<Fault> {
    let any = |draw: &mut Draw| Fault::ALL[draw.below(Fault::ALL.len() as u64) as usize];
    let mut kinds = match draw.below(4) {
        0 => vec![any(draw)],
        1 | 2 => vec![any(draw), any(draw)],
        _ => {
            let chosen = Fault::ALL.into_iter().filter(|_| draw.below(2) == 0);
            let mut chosen: Vec<Fault> = chosen.collect();
            chosen.push(any(draw));
            chosen
        }
    };
    // Nothing comes back that was not replaced.
    if kinds.contains(&Fault::ReturnedDisk) && !kinds.contains(&Fault::WipedDisk) {
        kinds.push(Fault::WipedDisk);
    }
    kinds
}
