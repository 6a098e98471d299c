//! What holds for anything that a client may send.

use std::sync::Arc;

use transload_block::Memory;

use super::handshake::Offered;
use super::session::Session;
use super::{Export, handshake};
use crate::transport::{Cutter, Script};

/// Says `input` to a server of a small disk. It must come to an end, whatever it answers.
pub fn talk_to_server(input: &[u8]) {
    let exports = [
        Export::writable("disk", Arc::new(Memory::new(1 << 20))),
        Export::read_only("other", Arc::new(Memory::new(4097))).with_description("read-only"),
    ];
    let mut line = Script::new(input);
    if let Ok(Some(agreed)) = handshake::negotiate(&mut line, Offered { exports: &exports, tls: None }) {
        let session = Session::new(agreed.export, agreed.dialect, agreed.allocation, Cutter::new(|| {}));
        // Broken requests end in an error, which is as good an end as a good-bye.
        drop(session.run(Box::new(line.clone()), Box::new(line), 1));
    }
}
