//! The echo server on the crate `runtime`.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use runtime::{Core, Stream, uring};

use crate::error::{BenchError, During, Result};

const BUFFER_BYTES: usize = 64 << 10;
const ROOM_BYTES_MIN: usize = 4 << 10;

pub fn serve(address: SocketAddr, cpu: usize) -> Result<()> {
    let unusable = |error: &dyn std::error::Error| BenchError::Unusable(error.to_string());
    uring::probe().map_err(|error| unusable(&error))?;
    // Never spinning, like the other side.
    let options = uring::Options {
        cores: vec![cpu],
        pin: true,
        spin: Duration::ZERO,
        ..uring::Options::cores(1)
    };
    let main = move |core, _post, _inbox| accept(core, address);
    let node = uring::launch::<(), _, _>(options, main).during("starting the runtime")?;
    node.join().map_err(|error| unusable(&error))
}

async fn accept(core: Core, address: SocketAddr) {
    let listener = core
        .listen(address, 1024)
        .await
        .expect("the port was free a moment ago");
    while let Ok(stream) = listener.accept().await {
        core.spawn("echo", echo(stream));
    }
}

async fn echo(stream: Stream) {
    let mut buffer = BytesMut::with_capacity(BUFFER_BYTES);
    loop {
        if buffer.capacity() < ROOM_BYTES_MIN {
            buffer.reserve(BUFFER_BYTES);
        }
        let (received, mut back) = stream.read(buffer).await;
        if received.unwrap_or(0) == 0 {
            return;
        }
        let echo: Bytes = back.split().freeze();
        if stream.write_all(vec![echo]).await.is_err() {
            return;
        }
        buffer = back;
    }
}
