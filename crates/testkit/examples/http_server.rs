//! Serves one file on the loopback interface, with a delay before every answer: `http_server FILE MILLISECONDS`. Prints the address,
//! and ends when its standard input does.

use std::io::Read;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use transload_block::FileBlock;
use transload_testkit::{Fault, HttpServer};

fn main() {
    let mut arguments = std::env::args().skip(1);
    let file = arguments.next().expect("the file to serve");
    let delay = arguments.next().and_then(|text| text.parse().ok()).expect("the delay in milliseconds");
    let server = HttpServer::start();
    server.device("/disk", Arc::new(FileBlock::open(Path::new(&file), false).expect("the file")), Fault::None);
    server.delay(Duration::from_millis(delay));
    println!("{}", server.url("/disk"));
    let ended = std::io::stdin().read_to_end(&mut Vec::new());
    drop(ended);
}
