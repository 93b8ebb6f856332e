//! HTTP: connections, their limits, and what lies at which path.
//!
//! A stranger who connects gets little: one request a connection, a head of at most
//! [`HEAD_BYTES_MAX`] within [`HEAD_WITHIN`], all of it over within [`CONNECTION_WITHIN`]. At most
//! [`CONNECTIONS_MAX`] are served at once; the next wait in the kernel's queue. Bodies of requests
//! are not read; an order is in its path. Cores are asked for figures by one request at a time, whatever the number of
//! scrapers; health checks do not queue behind those.

use std::cell::RefCell;
use std::convert::Infallible;
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use hyper::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request as HttpRequest, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, oneshot};
use tokio::time::timeout;

use super::collect::{self, Snapshot};
use super::cores::Cores;
use super::exposition;
use super::metrics::{self, Host};
use super::orders;
use super::process::Process;
use crate::observe::{Pulse, Request};

/// Connections served at once.
pub(super) const CONNECTIONS_MAX: usize = 32;
/// Bytes of a request's first line and headers.
pub(super) const HEAD_BYTES_MAX: usize = 8 << 10;
/// Headers of a request.
pub(super) const HEADERS_MAX: usize = 64;
/// From the connection to the end of the request's head.
pub(super) const HEAD_WITHIN: Duration = Duration::from_secs(3);
/// From the connection to its end.
pub(super) const CONNECTION_WITHIN: Duration = Duration::from_secs(15);
/// The same if it is an operator of this machine that waits for an order.
const ORDER_CONNECTION_WITHIN: Duration = Duration::from_secs(60);
/// How long the cores may be asked for one page of figures.
pub(super) const PAGE_WITHIN: Duration = Duration::from_secs(8);
/// How long the accept loop rests when it cannot accept (no descriptors, mostly).
const ACCEPT_REST: Duration = Duration::from_millis(100);

pub(super) const PLAIN_TEXT: &str = "text/plain; charset=utf-8";
const PATHS: &str = "/metrics\n/metrics/partitions\n/healthz\n/readyz\n";

/// What all connections share.
pub(super) struct Server {
    cores: Cores,
    started: Instant,
    /// One page of figures at a time.
    pages: Semaphore,
    /// Busy and parked time of each core at the last page, in ns.
    last: RefCell<Vec<(u64, u64)>>,
}

/// An answer: status, content type, text.
type Answer = (StatusCode, &'static str, String);

impl Server {
    pub(super) fn new(cores: usize, ask: impl Fn(usize, Request) + 'static) -> Rc<Server> {
        Rc::new(Server {
            cores: Cores::new(cores, ask),
            started: Instant::now(),
            pages: Semaphore::new(1),
            last: RefCell::new(vec![(0, 0); cores]),
        })
    }

    /// Serves until `stopped` resolves, by a word or by its sender's end.
    pub(super) async fn serve(
        self: Rc<Server>,
        listener: TcpListener,
        stopped: oneshot::Receiver<()>,
    ) {
        tokio::select! {
            () = self.accept(listener) => {}
            _ = stopped => {}
        }
    }

    async fn accept(self: Rc<Server>, listener: TcpListener) {
        let slots = Arc::new(Semaphore::new(CONNECTIONS_MAX));
        loop {
            let slot = slots
                .clone()
                .acquire_owned()
                .await
                .expect("the semaphore stays open");
            match listener.accept().await {
                Ok((stream, from)) => {
                    let server = self.clone();
                    let from = from.ip();
                    let within = match from.to_canonical().is_loopback() {
                        true => ORDER_CONNECTION_WITHIN,
                        false => CONNECTION_WITHIN,
                    };
                    tokio::task::spawn_local(async move {
                        // Past the limit the connection is cut; there is nobody to tell.
                        let _ = timeout(within, server.connection(stream, from)).await;
                        drop(slot);
                    });
                }
                Err(error) => {
                    tracing::debug!(%error, "a connection for metrics could not be accepted");
                    tokio::time::sleep(ACCEPT_REST).await;
                }
            }
        }
    }

    async fn connection(self: Rc<Server>, stream: TcpStream, from: IpAddr) {
        let service = service_fn(|request| {
            let server = self.clone();
            async move { Ok::<_, Infallible>(server.respond(&request, from).await) }
        });
        let served = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEAD_WITHIN)
            .max_buf_size(HEAD_BYTES_MAX)
            .max_headers(HEADERS_MAX)
            .keep_alive(false)
            .serve_connection(TokioIo::new(stream), service)
            .await;
        if let Err(error) = served {
            tracing::debug!(%error, "a connection for metrics failed");
        }
    }

    async fn respond<B>(&self, request: &HttpRequest<B>, from: IpAddr) -> Response<String> {
        let is_read = matches!(*request.method(), Method::GET | Method::HEAD);
        let is_posted = *request.method() == Method::POST;
        let order = orders::Kind::of(request.uri().path()).filter(|_| is_posted);
        let path = request.uri().path();
        let (status, content_type, text) = match (order, path) {
            (Some(kind), _) => {
                let query = request.uri().query().unwrap_or_default();
                let order = orders::read(kind, query, request.headers(), from);
                orders::carry_out(&self.cores, order).await
            }
            _ if !is_read => (StatusCode::METHOD_NOT_ALLOWED, PLAIN_TEXT, String::new()),
            (None, "/metrics") => self.page(self.metrics()).await,
            (None, "/metrics/partitions") => self.page(self.partitions()).await,
            (None, "/healthz") => health(&self.pulses().await),
            (None, "/readyz") => readiness(&self.pulses().await),
            (None, "/") => (
                StatusCode::OK,
                PLAIN_TEXT,
                format!("{PATHS}{}", orders::PATHS),
            ),
            _ => (
                StatusCode::NOT_FOUND,
                PLAIN_TEXT,
                format!("not found; there is:\n{PATHS}{}", orders::PATHS),
            ),
        };
        let mut response = Response::new(text);
        *response.status_mut() = status;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if !is_read && order.is_none() {
            headers.insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
        }
        response
    }

    /// Works out a page when it is its turn, unless that takes too long.
    async fn page(&self, work: impl Future<Output = String>) -> Answer {
        let in_turn = async {
            let _turn = self
                .pages
                .acquire()
                .await
                .expect("the semaphore stays open");
            work.await
        };
        match timeout(PAGE_WITHIN, in_turn).await {
            Ok(text) => (StatusCode::OK, exposition::CONTENT_TYPE, text),
            Err(_) => {
                let text = "the figures could not be had in time\n".to_owned();
                (StatusCode::SERVICE_UNAVAILABLE, PLAIN_TEXT, text)
            }
        }
    }

    async fn metrics(&self) -> String {
        let snapshot = collect::snapshot(&self.cores).await;
        let busy = self.busy(&snapshot);
        let host = Host {
            uptime: self.started.elapsed(),
            process: Process::read(),
        };
        metrics::page(&host, &snapshot, &busy)
    }

    async fn partitions(&self) -> String {
        metrics::partitions_page(&collect::partitions(&self.cores).await)
    }

    /// Each core's share of time at work since the last page; `None` where that is not known.
    fn busy(&self, snapshot: &Snapshot) -> Vec<Option<f64>> {
        let mut last = self.last.borrow_mut();
        let share = |(figures, last): (&collect::CoreFigures, &mut (u64, u64))| {
            let now = figures.report.as_ref()?.runtime;
            let before = std::mem::replace(last, (now.busy_ns, now.parked_ns));
            let busy_ns = now.busy_ns.saturating_sub(before.0) as f64;
            let parked_ns = now.parked_ns.saturating_sub(before.1) as f64;
            (busy_ns + parked_ns > 0.0).then(|| busy_ns / (busy_ns + parked_ns))
        };
        snapshot
            .cores
            .iter()
            .zip(last.iter_mut())
            .map(share)
            .collect()
    }

    async fn pulses(&self) -> Vec<Option<Pulse>> {
        self.cores.ask_all(Request::Pulse).await
    }
}

/// Every core answers.
fn health(pulses: &[Option<Pulse>]) -> Answer {
    let stalled: Vec<String> = pulses
        .iter()
        .enumerate()
        .filter(|(_, pulse)| pulse.is_none())
        .map(|(core, _)| core.to_string())
        .collect();
    match stalled.is_empty() {
        true => (StatusCode::OK, PLAIN_TEXT, "ok\n".to_owned()),
        false => unavailable(format!("no answer from core {}\n", stalled.join(", "))),
    }
}

/// Every core answers, and clients are let in.
fn readiness(pulses: &[Option<Pulse>]) -> Answer {
    let known = || pulses.iter().flatten();
    match health(pulses) {
        (StatusCode::OK, ..) if known().any(|pulse| pulse.is_stopping) => {
            unavailable("stopping\n".to_owned())
        }
        (StatusCode::OK, ..) if !known().any(|pulse| pulse.is_accepting) => {
            unavailable("starting\n".to_owned())
        }
        health => health,
    }
}

fn unavailable(text: String) -> Answer {
    (StatusCode::SERVICE_UNAVAILABLE, PLAIN_TEXT, text)
}
