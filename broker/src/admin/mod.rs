//! The HTTP server for whoever watches a node: metrics and health; and for orders that Kafka's protocol has no words for
//! (DESIGN D9).
//!
//! It runs on a thread of its own and owns nothing: every figure is asked of the cores by mail
//! ([`cores`]), put together here ([`collect`]) and written down ([`metrics`], [`exposition`]).
//! A core that does not answer in time is left out and reported as such; the thread never makes a
//! core wait.
//!
//! | path | answer |
//! |---|---|
//! | `/metrics` | figures of the node, in Prometheus' text format 0.0.4 |
//! | `/metrics/partitions` | some figures of each partition, in the same format |
//! | `/healthz` | 200 if every core answers within a second, else 503 |
//! | `/readyz` | 200 if moreover the node accepts clients, else 503 |
//! | POST `/partitions/...`, `/metadata/recover` | an operator's order, from the machine itself only ([`orders`]) |
//!
//! Must not know: Kafka's protocol, storage, the runtime beyond its mail. Deliberately absent: TLS
//! and passwords. The default address is on the loopback; bind another one only where the network
//! is trusted, since group and topic names are among the labels.

mod collect;
mod cores;
mod exposition;
mod metrics;
mod orders;
mod process;
mod server;

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::thread::JoinHandle;

use runtime::Gateway;
use tokio::sync::oneshot;

use crate::config::Endpoint;
use crate::observe::Request;
use crate::shard::mail::Mail;
use server::Server;

/// The server's thread. Dropping it ends the server and waits for the thread.
#[derive(Debug)]
pub struct Admin {
    address: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

/// Starts the server beside a node, unless the configuration has none (`corelane.admin.listener`).
/// Where that fails, one warning says so: a broker serves its clients without being watched, too.
pub fn start(listener: Option<Endpoint>, gateway: Gateway<Mail>, cores: usize) -> Option<Admin> {
    let endpoint = listener?;
    let ask = move |core, request| gateway.send(core, Mail::Observe(request));
    match Admin::start(&endpoint, cores, ask) {
        Ok(admin) => {
            tracing::info!("metrics and health at http://{}/", admin.address);
            Some(admin)
        }
        Err(error) => {
            tracing::warn!(
                "no metrics and no health checks: cannot listen on {endpoint}: {error}; set \
                 corelane.admin.listener to a free address, or to nothing"
            );
            None
        }
    }
}

impl Admin {
    /// Binds the address in the calling thread, so that an error is the caller's. `ask` brings a
    /// request to a core and never blocks.
    fn start(
        endpoint: &Endpoint,
        cores: usize,
        ask: impl Fn(usize, Request) + Send + 'static,
    ) -> io::Result<Admin> {
        let listener = TcpListener::bind(&*endpoint.addresses()?)?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let (stop, stopped) = oneshot::channel();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let serve = move || {
            let tasks = tokio::task::LocalSet::new();
            tasks.block_on(&runtime, async move {
                match tokio::net::TcpListener::from_std(listener) {
                    Ok(listener) => Server::new(cores, ask).serve(listener, stopped).await,
                    Err(error) => tracing::warn!(%error, "metrics and health cannot be served"),
                }
            });
        };
        let thread = std::thread::Builder::new()
            .name("admin".into())
            .spawn(serve)?;
        Ok(Admin {
            address,
            stop: Some(stop),
            thread: Some(thread),
        })
    }
}

impl Drop for Admin {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::warn!("the thread of metrics and health checks has panicked");
        }
    }
}

#[cfg(test)]
mod tests;
