//! What must hold for any bytes that the other side may send.

use transload_block::Property;

pub use crate::client::fuzz::answer_client as nbd_client;
pub use crate::server::fuzz::talk_to_server as nbd_server;

/// Every property, by the name of its fuzz target.
pub const ALL: &[Property] = &[
    Property { name: "nbd_client", holds: nbd_client, seeds: answers },
    Property { name: "nbd_server", holds: nbd_server, seeds: questions },
];

fn words<const N: usize>(words: [u32; N]) -> Vec<u8> {
    words.into_iter().flat_map(u32::to_be_bytes).collect()
}

/// What clients say: each option, each request, in each dialect.
fn questions() -> Vec<Vec<u8>> {
    let flags = words([3]);
    let option = |number: u32, data: &[u8]| {
        [&b"IHAVEOPT"[..], &words([number, u32::try_from(data.len()).unwrap_or(0)]), data].concat()
    };
    let context = [&words([0, 1, 15])[..], b"base:allocation"].concat();
    let go = option(7, &[0; 6]);
    let requests: Vec<u8> = (0..8_u32).flat_map(|command| words([0x2560_9513, command, 0, 7, 0, 512, 1024])).collect();
    let extended: Vec<u8> =
        (0..8_u32).flat_map(|command| words([0x21e4_1c71, command, 0, 7, 0, 512, 0, 1024])).collect();
    vec![
        [&flags[..], &option(3, &[]), &option(6, &[0; 6]), &option(9, &context), &option(2, &[])].concat(),
        [&flags[..], &option(1, b"other"), &requests].concat(),
        [&flags[..], &option(8, &[]), &option(10, &context), &go, &requests].concat(),
        [&flags[..], &option(11, &[]), &option(10, &context), &go, &extended].concat(),
    ]
}

/// What servers say: a negotiation in each dialect, and replies to the first requests.
fn answers() -> Vec<Vec<u8>> {
    let greeting = [&b"NBDMAGICIHAVEOPT"[..], &[0, 3]].concat();
    let reply = |option: u32, kind: u32, data: &[u8]| {
        let length = u32::try_from(data.len()).unwrap_or(0);
        [&words([0x0003_e889, 0x0455_65a9, option, kind, length])[..], data].concat()
    };
    let (ack, no) = (1, 1 << 31 | 1);
    let context = [&words([1])[..], b"base:allocation"].concat();
    let export = [&[0, 0][..], &words([0, 1 << 20]), &[0, 1]].concat();
    let go = [reply(7, 3, &export), reply(7, ack, &[])].concat();
    let data = [&words([0, 0])[..], &[7; 4096]].concat();
    let chunk = [&words([0x668e_33ef, 1 << 16 | 1, 0, 1, 4104])[..], &data].concat();
    let status = words([0x668e_33ef, 1 << 16 | 5, 0, 2, 12, 1, 1 << 20, 3]);
    let meta = [reply(10, 4, &context), reply(10, ack, &[])].concat();
    vec![
        [&greeting[..], &reply(11, no, &[]), &reply(8, no, &[]), &go, &words([0x6744_6698, 0, 0, 1]), &[7; 4096]]
            .concat(),
        [&greeting[..], &reply(11, no, &[]), &reply(8, ack, &[]), &meta, &go, &chunk, &status].concat(),
        [&greeting[..], &reply(11, ack, &[]), &meta, &go].concat(),
    ]
}
