//! Requests and answers of a client in the simulator.

use bytes::BytesMut;
use protocol::api::{Message, RequestMessage};
use protocol::codec::Decoder;
use protocol::frame;
use runtime::Stream;

/// One request, one answer.
pub async fn call<R: RequestMessage>(stream: &Stream, version: i16, request: R) -> R::Response {
    send(stream, version, request).await;
    receive::<R>(stream, version).await
}

/// A request whose answer is awaited later.
pub async fn send<R: RequestMessage>(stream: &Stream, version: i16, request: R) {
    let parts =
        frame::request(None, 1, version, &request).expect("a request that fits its version");
    stream.write_all(parts).await.expect("the node takes it");
}

/// The answer to the request that was sent, the only one under way.
pub async fn receive<R: RequestMessage>(stream: &Stream, version: i16) -> R::Response {
    let mut received = BytesMut::new();
    loop {
        if let Some(answer) = frame::cut(&mut received, 16 << 20).expect("a frame") {
            let mut input = Decoder::new(answer);
            assert_eq!(input.i32().expect("a correlation id"), 1);
            if R::KEY.api().response_header_version(version) >= 1 {
                input
                    .tagged_fields(|_, _| Ok(false))
                    .expect("tagged fields");
            }
            return R::Response::decode(&mut input, version).expect("an answer");
        }
        received.reserve(64 << 10);
        let (got, buffer) = stream.read(received).await;
        received = buffer;
        assert_ne!(
            got.expect("the node answers"),
            0,
            "the node closed the connection"
        );
    }
}
