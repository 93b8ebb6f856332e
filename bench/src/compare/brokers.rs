//! All the brokers of a run: one alone, or the nodes of a cluster. They are killed when this value
//! goes.

use std::net::SocketAddr;

use super::broker::{Home, Running};
use crate::error::{BenchError, Result};
use crate::machine::{Process, total};
use crate::wire::Control;

/// One for each home, in the order of their numbers, which count from 1.
pub struct Brokers {
    // Before the homes, so that processes go before their folders.
    nodes: Vec<Option<Running>>,
    pub homes: Vec<Home>,
}

impl Brokers {
    pub fn new(homes: Vec<Home>, nodes: Vec<Running>) -> Brokers {
        let nodes = nodes.into_iter().map(Some).collect();
        Brokers { nodes, homes }
    }

    /// Those that run.
    pub fn processes(&self) -> Vec<Process> {
        self.nodes.iter().flatten().map(Running::process).collect()
    }

    /// A connection to the first of them, as soon as all serve one.
    pub fn control(&mut self) -> Result<Control> {
        let mut running = self.nodes.iter_mut().flatten();
        let nobody = || BenchError::Unusable("no broker runs".to_owned());
        let first = running.next().ok_or_else(nobody)?.control()?;
        for other in running {
            other.control()?;
        }
        Ok(first)
    }

    pub fn cpu_s(&self) -> Option<f64> {
        total(&self.processes(), Process::cpu_s, |a, b| a + b)
    }

    pub fn resident_mib(&self) -> Option<f64> {
        let bytes = total(&self.processes(), Process::resident_bytes, |a, b| a + b);
        bytes.map(|bytes| bytes as f64 / f64::from(1 << 20))
    }

    pub fn descriptors(&self) -> Option<u64> {
        total(&self.processes(), Process::descriptors, |a, b| a + b)
    }

    /// kill -9.
    pub fn kill(&mut self, node: i32) -> Result<()> {
        self.slot(node)?.take().map_or(Ok(()), Running::kill)
    }

    /// Asks a node to stop; it goes when it likes.
    pub fn terminate(&mut self, node: i32) -> Result<()> {
        if let Some(running) = self.slot(node)? {
            running.terminate();
        }
        Ok(())
    }

    /// Whether the process of a node is over.
    pub fn has_ended(&mut self, node: i32) -> Result<bool> {
        let slot = self.slot(node)?;
        let ended = match slot {
            Some(running) => running.has_ended()?,
            None => true,
        };
        if ended {
            *slot = None;
        }
        Ok(ended)
    }

    /// `running` is what `node` is now.
    pub fn replace(&mut self, node: i32, running: Running) -> Result<()> {
        *self.slot(node)? = Some(running);
        Ok(())
    }

    /// The end of a run. One alone is stopped as an operator would; several are killed, as each
    /// would hand over to the next.
    pub fn stop(mut self) -> Result<()> {
        match self.nodes.as_mut_slice() {
            [only] => only.take().map_or(Ok(()), |only| only.stop().map(drop)),
            _ => Ok(()),
        }
    }

    /// Where clients connect.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.homes.iter().map(Home::address).collect()
    }

    fn slot(&mut self, node: i32) -> Result<&mut Option<Running>> {
        let place = usize::try_from(node - 1).ok();
        let slot = place.and_then(|place| self.nodes.get_mut(place));
        slot.ok_or_else(|| BenchError::Unusable(format!("there is no node {node}")))
    }
}
