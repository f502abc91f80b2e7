//! `recon boot-from`: what a boot script would start, or that started.

use anyhow::bail;

use super::args::{AssistedArgs, BootFromArgs};
use super::ask::in_runtime;
use super::output::print;
use crate::model::shown::Shown;
use crate::role::boot_from::asked::{Config, WantedEnd};
use crate::role::boot_from::assisted::{Assisted, Token};
use crate::role::boot_from::look;
use crate::role::boot_from::run;

pub(super) fn run(args: BootFromArgs) -> anyhow::Result<()> {
    let sums: Result<_, String> = args.sha256.iter().map(|sum| sum.parse()).collect();
    let config = Config {
        url: args.url.unwrap_or_default(),
        assisted: assisted(args.assisted),
        authorities: args.ca,
        is_only_authorities: false,
        proxy: args.proxy,
        headers: args.header,
        append: args.append,
        sums: sums.map_err(|why| anyhow::anyhow!(why))?,
        method: args.method.unwrap_or_default(),
        script_patience: None,
        end: match (args.verify, args.no_jump) {
            (true, _) => WantedEnd::Verified,
            (false, true) => WantedEnd::Loaded,
            (false, false) => WantedEnd::Started,
        },
        is_agreed: args.yes,
    };
    if !args.plan {
        return in_runtime(run::boot(&config));
    }
    let report = in_runtime(look::plan(&config))?;
    print(&match args.json {
        true => Shown::json(&report)?,
        false => report.text(),
    })?;
    if !report.is_startable(config.method) {
        bail!("nothing would be started: the plan says why");
    }
    Ok(())
}

fn assisted(args: AssistedArgs) -> Option<Assisted> {
    let token = match (args.token_file, args.refresh_token_file) {
        (Some(file), _) => Token::File(file),
        (None, Some(file)) => Token::Refresh {
            file,
            url: args.token_url,
        },
        (None, None) => Token::None,
    };
    Some(Assisted {
        infra_env: args.infra_env?,
        api: args.api,
        token,
    })
}
