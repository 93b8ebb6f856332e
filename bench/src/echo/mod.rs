//! What a TCP echo costs: the crate `runtime` against glommio, each on one pinned core.
//!
//! This is the measurement that docs/decisions/0001 rests on. The server is a process of its own,
//! so that its CPU can be told from the client's; the client is one thread with an epoll.

mod client;
mod glommio_server;
mod runtime_server;

use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::{Child, Command};
use std::time::Duration;

use crate::arguments::{EchoArguments, EchoRuntime, EchoServeArguments};
use crate::error::{BenchError, During, Result};
use crate::machine::{
    Process, available_cpus, describe, pin_command, pin_thread, wait_until_quiet,
};
use crate::table::{Table, number, replace_section};

const WARM_UP: Duration = Duration::from_secs(1);
const PRESSURE_MAX_PERCENT: f64 = 2.0;
const RUNTIMES: [EchoRuntime; 2] = [EchoRuntime::Ours, EchoRuntime::Glommio];

/// One measurement.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Sample {
    echoes_per_s: f64,
    cpu_us_per_echo: f64,
}

/// Measures all runtimes in turn, prints the table, and writes it where it was asked for.
pub fn compare(arguments: EchoArguments) -> Result<()> {
    let cpus = available_cpus();
    let (server_cpu, client_cpu) = (cpus[0], cpus[cpus.len() - 1]);
    pin_thread(&[client_cpu]).during("pinning the client")?;
    let pressure = wait_until_quiet(PRESSURE_MAX_PERCENT, arguments.patience);
    let mut table = Table::new([
        "connections",
        "runtime: echoes/s",
        "CPU-us each",
        "glommio: echoes/s",
        "CPU-us each",
        "CPU of runtime / glommio",
    ]);
    for connections in &arguments.connections {
        let mut samples: [Vec<Sample>; 2] = Default::default();
        for _ in 0..arguments.rounds {
            for (runtime, samples) in RUNTIMES.into_iter().zip(&mut samples) {
                let sample = measure(runtime, *connections, server_cpu, &arguments)?;
                eprintln!("{runtime:?}, {connections} connections: {sample:?}");
                samples.push(sample);
            }
        }
        let [ours, glommio] = samples.each_mut().map(|samples| median(samples));
        table.row([
            connections.to_string(),
            number(ours.echoes_per_s),
            number(ours.cpu_us_per_echo),
            number(glommio.echoes_per_s),
            number(glommio.cpu_us_per_echo),
            number(ours.cpu_us_per_echo / glommio.cpu_us_per_echo),
        ]);
    }
    let mut text = format!(
        "{}. Echoes of {} bytes in a closed loop; server on one pinned core, client on another; \
         median of {} runs of {} s in turn.\n\n{table}",
        describe(),
        arguments.size,
        arguments.rounds,
        arguments.duration.as_secs_f64(),
    );
    if let Some(percent) = pressure.filter(|percent| *percent >= PRESSURE_MAX_PERCENT) {
        text += &format!(
            "\nOther programs were running (CPU pressure {} %): the rates are not to be quoted. \
             The CPU time is that of the server's process alone.\n",
            number(percent)
        );
    }
    print!("{text}");
    match &arguments.write {
        Some(path) => write_section(path, "echo", &text),
        None => Ok(()),
    }
}

/// Puts `content` between the markers of `section` in the document at `path`.
pub fn write_section(path: &Path, section: &str, content: &str) -> Result<()> {
    let document = fs::read_to_string(path).during(format!("reading {}", path.display()))?;
    let document = replace_section(&document, section, content)?;
    fs::write(path, document).during(format!("writing {}", path.display()))
}

/// Serves echoes until it is killed.
pub fn serve(arguments: EchoServeArguments) -> Result<()> {
    let address: SocketAddr = ([127, 0, 0, 1], arguments.port).into();
    match arguments.runtime {
        EchoRuntime::Ours => runtime_server::serve(address, arguments.cpu),
        EchoRuntime::Glommio => glommio_server::serve(address, arguments.cpu),
    }
}

fn measure(
    runtime: EchoRuntime,
    connections: usize,
    server_cpu: usize,
    arguments: &EchoArguments,
) -> Result<Sample> {
    let listener = TcpListener::bind("127.0.0.1:0").during("looking for a free port")?;
    let address = listener.local_addr().during("looking for a free port")?;
    drop(listener);
    let server = Server::start(runtime, address.port(), server_cpu)?;
    let process = Process(server.0.id());
    let mut client = client::Client::connect(address, connections, arguments.size)?;
    client.run(WARM_UP)?;
    let before_s = process.cpu_s();
    let echoes = client.run(arguments.duration)?;
    let cpu_s = process
        .cpu_s()
        .zip(before_s)
        .map(|(after, before)| after - before);
    let cpu_s = cpu_s.ok_or_else(|| BenchError::Unusable("the echo server has died".into()))?;
    Ok(Sample {
        echoes_per_s: echoes as f64 / arguments.duration.as_secs_f64(),
        cpu_us_per_echo: cpu_s * 1e6 / echoes as f64,
    })
}

/// This binary again, as a server; ends with this value.
struct Server(Child);

impl Server {
    fn start(runtime: EchoRuntime, port: u16, cpu: usize) -> Result<Server> {
        let name = match runtime {
            EchoRuntime::Ours => "ours",
            EchoRuntime::Glommio => "glommio",
        };
        let this = std::env::current_exe().during("finding this binary")?;
        let mut command = Command::new(this);
        command.args(["echo-serve", "--runtime", name]);
        command.args(["--port", &port.to_string(), "--cpu", &cpu.to_string()]);
        pin_command(&mut command, vec![cpu]);
        Ok(Server(command.spawn().during("starting the echo server")?))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It has no state: killing it is the way to end it. It may have died on its own.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The median of each figure by itself.
fn median(samples: &mut [Sample]) -> Sample {
    let mut middle = |figure: fn(&Sample) -> f64| {
        samples.sort_by(|a, b| figure(a).total_cmp(&figure(b)));
        samples.get(samples.len() / 2).map_or(f64::NAN, figure)
    };
    Sample {
        echoes_per_s: middle(|sample| sample.echoes_per_s),
        cpu_us_per_echo: middle(|sample| sample.cpu_us_per_echo),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_figure_has_its_own_median() {
        let sample = |echoes_per_s, cpu_us_per_echo| Sample {
            echoes_per_s,
            cpu_us_per_echo,
        };
        let mut samples = [sample(1.0, 9.0), sample(3.0, 1.0), sample(2.0, 5.0)];
        assert_eq!(median(&mut samples), sample(2.0, 5.0));
    }
}
