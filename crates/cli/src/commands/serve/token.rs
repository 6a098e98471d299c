//! `transload serve token`: who may ask the service.

use clap::{Args, Subcommand};
use serde::Serialize;
use transload::block::Result;
use transload::filesystem::Timestamp;
use transload_service::token;

use super::StateArgs;
use crate::failure::Verdict;
use crate::files::show;
use crate::text::{self, Text};

/// Make, list and remove the tokens that clients send
///
/// The file has a hash of each token and not the token itself, which is shown once. A service that runs sees changes at once.
#[derive(Args, Debug)]
#[command(after_help = "Examples:\n  transload serve token add ci\n  curl -H \"Authorization: Bearer $TOKEN\" https://host:8443/v1/server")]
pub(crate) struct Arguments {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Make a token and print it
    Add {
        /// What it is called, for the log and to remove it by
        #[arg(value_name = "NAME")]
        name: String,
        #[command(flatten)]
        state: StateArgs,
    },
    /// List the tokens by their names
    List {
        #[command(flatten)]
        state: StateArgs,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Remove a token; requests with it are refused from then on
    Remove {
        /// What it is called
        #[arg(value_name = "NAME")]
        name: String,
        #[command(flatten)]
        state: StateArgs,
    },
}

impl Arguments {
    /// Whether failures are to be told in JSON as well.
    pub(crate) const fn json(&self) -> bool {
        matches!(self.what, What::List { json: true, .. })
    }
}

#[derive(Serialize)]
struct Document {
    tokens: Vec<TokenDocument>,
}

#[derive(Serialize)]
struct TokenDocument {
    name: String,
    /// Seconds since 1970.
    created: u64,
}

pub(crate) fn run(arguments: &Arguments) -> Result<Verdict> {
    match &arguments.what {
        What::Add { name, state } => {
            let token = token::add(&state.token_file()?, name)?;
            let mut text = Text::new();
            text.line(token)?;
            text.finish()?;
        }
        What::List { state, json } => {
            let tokens = token::list(&state.token_file()?)?;
            if *json {
                let tokens = tokens.into_iter().map(|token| TokenDocument { name: token.name, created: token.created });
                text::json(&Document { tokens: tokens.collect() })?;
            } else {
                let mut text = Text::new();
                for token in tokens {
                    let seconds = i64::try_from(token.created).unwrap_or(i64::MAX);
                    let made = show::time(Some(Timestamp { seconds, nanos: 0 }));
                    text.line(format_args!("{}  {made} UTC", token.name))?;
                }
                text.finish()?;
            }
        }
        What::Remove { name, state } => token::remove(&state.token_file()?, name)?,
    }
    Ok(Verdict::Done)
}
