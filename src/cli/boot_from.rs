//! `recon boot-from`: what a boot script would start, or that started.

use super::args::BootFromArgs;
use super::ask::in_runtime;
use super::output::print;
use crate::model::shown::Shown;
use crate::role::boot_from::run::{self, Config};

pub(super) fn run(args: BootFromArgs) -> anyhow::Result<()> {
    let config = Config {
        url: args.url,
        authorities: args.ca,
        proxy: args.proxy,
        headers: args.header,
        append: args.append,
    };
    let report = in_runtime(run::plan(&config))?;
    print(&match args.json {
        true => Shown::json(&report)?,
        false => report.text(),
    })
}
