//! The echo server on glommio, as its documentation would have one written.

use std::net::SocketAddr;

use futures_lite::{AsyncReadExt, AsyncWriteExt};
use glommio::net::{TcpListener, TcpStream};
use glommio::{LocalExecutorBuilder, Placement};

use crate::error::{BenchError, Result};

const BUFFER_BYTES: usize = 64 << 10;

pub fn serve(address: SocketAddr, cpu: usize) -> Result<()> {
    let unusable = |error: glommio::GlommioError<()>| BenchError::Unusable(error.to_string());
    let executor = LocalExecutorBuilder::new(Placement::Fixed(cpu));
    let handle = executor.spawn(move || accept(address)).map_err(unusable)?;
    handle.join().map_err(unusable)
}

async fn accept(address: SocketAddr) {
    let listener = TcpListener::bind(address).expect("the port was free a moment ago");
    while let Ok(stream) = listener.accept().await {
        glommio::spawn_local(echo(stream)).detach();
    }
}

async fn echo(mut stream: TcpStream) {
    if stream.set_nodelay(true).is_err() {
        return;
    }
    let mut buffer = vec![0; BUFFER_BYTES];
    loop {
        match stream.read(&mut buffer).await {
            Ok(count) if count > 0 => {
                if stream.write_all(&buffer[..count]).await.is_err() {
                    return;
                }
            }
            _ => return,
        }
    }
}
