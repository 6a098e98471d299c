//! `transload nbd`: serves an image to NBD clients.

use std::io::Write;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;

use clap::{ArgGroup, Args, ValueEnum};
use transload::block::{BlockWrite, Error, ErrorKind, Result};
use transload::image::{Access, OpenSettings, Opened, open};
use transload::location::Location;
use transload::nbd::{
    Event, Export, Listener, NbdAddress, Place, Server, ServerLimits, ServerTls, Stop, TlsAddress, TlsMode,
};
use transload::open_overlay;

use crate::args::ReadArgs;
use crate::failure::Verdict;
use crate::{input, interrupt, text};

/// Serve an image to NBD clients
///
/// Any format, with everything the image hangs from, looks like a raw disk to qemu, nbd-client, nbdcopy and others. It serves
/// until it is interrupted; then it writes what is still in memory and ends. Without --tls-authority there is no authentication:
/// listen where only those come who may have the disk.
#[derive(Args, Debug)]
#[command(
    group = ArgGroup::new("place").required(true).args(["socket", "listen"]),
    after_help = "Examples:\n  transload nbd --read-only --socket /run/disk.sock disk.vmdk\n  transload nbd --listen 127.0.0.1:10809 --overlay changes.qcow2 disk.qcow2\n  qemu-img convert -O raw 'nbd+unix:///?socket=/run/disk.sock' disk.raw"
)]
pub(crate) struct Arguments {
    /// The image
    #[arg(value_name = "IMG")]
    image: PathBuf,
    #[command(flatten)]
    read: ReadArgs,
    /// Listen on a socket in the file system
    #[arg(long, value_name = "PATH")]
    socket: Option<PathBuf>,
    /// Listen on a network address; without a port on NBD's, 10809, with port 0 on any that is free
    #[arg(long, value_name = "HOST[:PORT]")]
    listen: Option<String>,
    /// Refuse writes
    #[arg(long, short = 'r')]
    read_only: bool,
    /// Let writes go to FILE, a qcow2 overlay that is made if it does not exist, and leave the image as it is
    #[arg(long, value_name = "FILE", conflicts_with = "read_only")]
    overlay: Option<PathBuf>,
    /// The server's certificate, in PEM, with those between it and its authority behind it: clients have to speak TLS
    #[arg(long, value_name = "FILE", requires = "tls_key", help_heading = "TLS")]
    tls_certificate: Option<PathBuf>,
    /// The key of the certificate, in PEM
    #[arg(long, value_name = "FILE", requires = "tls_certificate", help_heading = "TLS")]
    tls_key: Option<PathBuf>,
    /// Serve clients alone that show a certificate of an authority in FILE
    #[arg(long, value_name = "FILE", requires = "tls_certificate", help_heading = "TLS")]
    tls_authority: Option<PathBuf>,
    /// Whether clients may do without TLS
    #[arg(long, value_name = "WHEN", value_enum, default_value_t, requires = "tls_certificate", help_heading = "TLS")]
    tls: Tls,
    /// The export's name
    #[arg(long, value_name = "NAME", default_value = "")]
    name: String,
    /// A sentence about the export, for those who list what there is
    #[arg(long, value_name = "TEXT", default_value = "")]
    description: String,
    /// Clients at a time; a client may use several connections, which count each
    #[arg(long, value_name = "N", default_value_t = ServerLimits::default().clients as u64, value_parser = clap::value_parser!(u64).range(1..=10_000))]
    clients: u64,
    /// Do not tell who comes and goes
    #[arg(short = 'q', long)]
    quiet: bool,
}

/// Whether clients may do without TLS.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum Tls {
    /// They may not
    #[default]
    Require,
    /// They may
    Allow,
}

pub(crate) fn run(arguments: &Arguments) -> Result<Verdict> {
    let place = place(arguments)?;
    let tls = tls(arguments)?;
    let opened = open_image(arguments)?;
    let size = opened.device.size();
    let writer = if arguments.read_only { None } else { Some(writer(arguments, &opened)?) };
    let export = match &writer {
        Some(writer) => Export::writable(&arguments.name, Arc::clone(writer)),
        None => Export::read_only(&arguments.name, Arc::clone(&opened.device)),
    };
    let limits = ServerLimits { clients: usize::try_from(arguments.clients).unwrap_or(64), ..ServerLimits::default() };
    let quiet = arguments.quiet;
    let server = Server::new(vec![export.with_description(&arguments.description)], limits).with_log(move |event| {
        if !quiet {
            tell(&event);
        }
    });
    let server = match tls {
        Some((tls, mode)) => server.with_tls(tls, mode),
        None => server,
    };
    let listener = Listener::bind(&place)?;
    let stop = Arc::new(Stop::new()?);
    {
        let stop = Arc::clone(&stop);
        interrupt::on_signal(move || stop.stop())?;
    }
    let tls = arguments.tls_certificate.is_some() && arguments.tls == Tls::Require;
    let tls = tls.then(TlsAddress::default);
    let address = NbdAddress { place: listener.place()?, export: arguments.name.clone(), tls };
    announce(arguments, &address, size)?;
    let served = server.serve(&listener, &stop);
    drop(server);
    if let Some(top) = opened.layers.first().and_then(|layer| layer.writer.as_ref()) {
        top.finish()?;
    }
    served?;
    Ok(Verdict::Done)
}

/// What the server proves itself with, and whether clients may do without.
fn tls(arguments: &Arguments) -> Result<Option<(ServerTls, TlsMode)>> {
    let (Some(certificate), Some(key)) = (&arguments.tls_certificate, &arguments.tls_key) else { return Ok(None) };
    let tls = ServerTls::from_files(certificate, key, arguments.tls_authority.as_deref())?;
    let mode = match arguments.tls {
        Tls::Require => TlsMode::Require,
        Tls::Allow => TlsMode::Allow,
    };
    Ok(Some((tls, mode)))
}

fn open_image(arguments: &Arguments) -> Result<Opened> {
    let writable = !arguments.read_only && arguments.overlay.is_none();
    let access = if writable { Access::ReadWrite } else { Access::ReadOnly };
    let prepared = input::prepare(&arguments.image, &arguments.read, access)?;
    match &arguments.overlay {
        Some(_) if !matches!(Location::of(&arguments.image), Location::File(_)) => {
            let text = format!("{}: an overlay hangs from a file", Location::of(&arguments.image).shown());
            Err(Error::new(ErrorKind::Unsupported, text).with_remedy("serve it with --read-only"))
        }
        Some(overlay) => {
            let settings = OpenSettings { format: Some(prepared.format), ..prepared.settings };
            open_overlay(&arguments.image, &settings, overlay)
        }
        None => open(prepared.source, &prepared.settings).map_err(|error| match error.kind() {
            ErrorKind::Unsupported | ErrorKind::ReadOnly if writable => error.with_remedy(WAYS),
            _ => error,
        }),
    }
}

/// What to do with an image that cannot be written.
const WAYS: &str = "serve it with --read-only, or let writes go to a file with --overlay";

fn writer(arguments: &Arguments, opened: &Opened) -> Result<Arc<dyn BlockWrite>> {
    opened.writer().ok_or_else(|| {
        let image = arguments.image.display();
        Error::new(ErrorKind::Unsupported, format!("{image}: cannot be written in place")).with_remedy(WAYS)
    })
}

fn place(arguments: &Arguments) -> Result<Place> {
    match (&arguments.socket, &arguments.listen) {
        (Some(path), _) => Ok(Place::Unix(path.clone())),
        (None, Some(listen)) => listen_address(listen),
        (None, None) => Err(Error::new(ErrorKind::InvalidInput, "neither --socket nor --listen is given")),
    }
}

/// `HOST`, `HOST:PORT`, `[IPV6]:PORT`; port 0 is any.
fn listen_address(listen: &str) -> Result<Place> {
    let (host, any) = match listen.strip_suffix(":0") {
        Some(host) => (host, true),
        None => (listen, false),
    };
    let address: NbdAddress = format!("nbd://{host}")
        .parse()
        .map_err(|_| Error::new(ErrorKind::InvalidInput, format!("--listen {listen}: is not HOST or HOST:PORT")))?;
    match address.place {
        Place::Tcp(host, _) if any => Ok(Place::Tcp(host, 0)),
        place => Ok(place),
    }
}

fn announce(arguments: &Arguments, address: &NbdAddress, size: u64) -> Result<()> {
    let mut stdout = std::io::stdout().lock();
    let written = writeln!(stdout, "{address}").and_then(|()| stdout.flush());
    written.map_err(|error| Error::io("standard output", error))?;
    if arguments.quiet {
        return Ok(());
    }
    let (image, size) = (arguments.image.display(), text::exact_size(size));
    let how = match (&arguments.overlay, arguments.read_only) {
        (Some(overlay), _) => format!("writes go to {}", overlay.display()),
        (None, true) => "read-only".to_owned(),
        (None, false) => "writable".to_owned(),
    };
    eprintln!("transload: {image}: serving {size}, {how}");
    let authenticated = arguments.tls_authority.is_some() && arguments.tls == Tls::Require;
    if let Place::Tcp(host, _) = &address.place
        && !authenticated
        && !host.parse().is_ok_and(|host: IpAddr| host.is_loopback())
    {
        eprintln!("transload: warning: whoever reaches {} has the disk: there is no authentication", address.place);
    }
    Ok(())
}

fn tell(event: &Event) {
    match event {
        Event::Begun { client, export } if export.is_empty() => eprintln!("transload: client {client}: connected"),
        Event::Begun { client, export } => {
            eprintln!("transload: client {client}: connected to '{}'", export.escape_debug());
        }
        Event::Ended { client, error: None } => eprintln!("transload: client {client}: gone"),
        Event::Ended { error: Some(error), .. } => eprintln!("transload: {error}"),
        Event::Refused => eprintln!("transload: a client was turned away: there are as many as --clients allows"),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn listening_addresses() {
        let tcp = |host: &str, port| Place::Tcp(host.to_owned(), port);
        for (text, place) in [
            ("localhost", tcp("localhost", 10809)),
            ("127.0.0.1:99", tcp("127.0.0.1", 99)),
            ("127.0.0.1:0", tcp("127.0.0.1", 0)),
            ("[::1]:0", tcp("::1", 0)),
        ] {
            assert_eq!(listen_address(text).unwrap(), place, "{text}");
        }
        for text in [":1", "h:x", "h:1:2", "u@h", ""] {
            assert_eq!(listen_address(text).unwrap_err().kind(), ErrorKind::InvalidInput, "{text}");
        }
    }
}
