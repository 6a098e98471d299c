//! What holds for anything that a server may answer.

use super::handshake;
use super::link::{Answer, Link, Request};
use crate::protocol::command;
use crate::transport::{Cutter, Script};

/// Has a server answer `input` to a client that reads and asks for block status. It must come to an end, and never take
/// more than was asked for.
pub fn answer_client(input: &[u8]) {
    let mut line = Script::new(input);
    let Ok(offer) = handshake::negotiate(&mut line, "disk", None) else { return };
    let link = Link::new(Box::new(line.clone()), Box::new(line), offer.dialect, Cutter::new(|| {}));
    let mut bytes = [0; 4096];
    for round in 0..4_u64 {
        let read = Request { command: command::READ, flags: 0, offset: round * 4096, length: 4096 };
        // An answer that is an error is as good as another.
        drop(link.call(read, &[], Answer::Bytes(&mut bytes)));
        let mut list = Vec::new();
        let status = Request { command: command::BLOCK_STATUS, flags: 0, offset: 0, length: 1 << 20 };
        drop(link.call(status, &[], Answer::Extents { context: offer.allocation.unwrap_or(1), list: &mut list }));
        assert!(list.len() <= (1 << 20) / 8, "more extents than a chunk has room for");
    }
}
