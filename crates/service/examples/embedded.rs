//! The service inside another program: `cargo run -p transload-service --example embedded -- ROOT STATE`.

use std::error::Error;

use transload_service::{Config, Service};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let folders: Vec<_> = std::env::args_os().skip(1).collect();
    let [root, state] = folders.as_slice() else { return Err("two folders are needed: ROOT and STATE".into()) };
    let service = Service::bind(Config::new(root, state)).await?;
    println!("http://{}", service.address()?);
    service.run(async { tokio::signal::ctrl_c().await.unwrap_or_default() }).await?;
    Ok(())
}
