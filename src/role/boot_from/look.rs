//! Looks at what a boot script would have started here, and starts nothing.

use std::sync::Arc;

use anyhow::bail;

use super::asked::Config;
use super::machine;
use super::plan::{self, Boot, End, Report};
use super::session::{Came, Session, are_enough};
use super::way::{Way, client};
use crate::service::fetch::client::Patience;

/// Somebody waits for a plan, and can ask again.
pub(super) const IMPATIENT: Patience = Patience {
    tries: 3,
    is_at_console: false,
    ..Patience::USUAL
};

/// Tells what would be started.
pub(crate) async fn plan(config: &Config) -> anyhow::Result<Report> {
    plan_over(config, &client(config, IMPATIENT)?).await
}

async fn plan_over(config: &Config, (target, client): &Way) -> anyhow::Result<Report> {
    let mut session = Session::begin(Arc::clone(client), target, false).await?;
    let end = planned(&mut session, config).await?;
    let kexec = machine::kexec_facts().verdict();
    let said = std::mem::take(&mut session.said);
    Ok(Report {
        script: target.to_string(),
        said,
        end,
        kexec,
    })
}

/// What the script comes to. It is told what could not be started, as when it is run, and may know another way; where it knows none, the
/// last of these is what there is to show.
async fn planned(session: &mut Session, config: &Config) -> anyhow::Result<End> {
    let mut refused: Vec<String> = Vec::new();
    let mut last: Option<Box<Boot>> = None;
    loop {
        let failed = last.as_ref().map(|boot| boot.problems.join("; "));
        let mut wanted = match (session.next(failed.clone()).await, last.take()) {
            (Ok(Came::Boot(wanted)), _) => wanted,
            (Ok(Came::Exit(_)), Some(boot)) => return Ok(End::Boot(boot)),
            (Err(error), Some(boot)) => {
                let why = format!("{error:#}");
                // What stands against the start is shown as that.
                if failed.is_none_or(|failed| !why.contains(&failed)) {
                    session.said.push(why);
                }
                return Ok(End::Boot(boot));
            }
            (Ok(Came::Exit(code)), None) => return Ok(End::Exit(code)),
            (Ok(Came::Shell), _) => return Ok(End::Shell),
            (Ok(Came::Reboot), _) => return Ok(End::Reboot),
            (Ok(Came::PowerOff), _) => return Ok(End::PowerOff),
            (Ok(Came::LocalDisk), _) => return Ok(End::LocalDisk),
            (Err(error), None) => return Ok(End::Failed(format!("{error:#}"))),
        };
        config.append_to(&mut wanted.command_line);
        let boot = plan::boot(
            &wanted,
            |image| session.seen(image),
            &session.sums(&config.sums),
            machine::available_bytes(),
            config.method,
        );
        refused.push(wanted.url);
        if boot.problems.is_empty() || are_enough(&refused) {
            return Ok(End::Boot(Box::new(boot)));
        }
        last = Some(Box::new(boot));
    }
}

/// Looks at what the script wants started; an error where that is nothing, or could not start.
pub(super) async fn look(config: &Config, way: &Way) -> anyhow::Result<()> {
    match plan_over(config, way).await?.end {
        End::Boot(boot) if boot.problems.is_empty() => Ok(()),
        End::Boot(boot) => bail!("{}", boot.problems.join("; ")),
        End::Reboot | End::LocalDisk => Ok(()),
        End::Failed(why) => bail!("{why}"),
        End::Exit(_) | End::Shell | End::PowerOff => bail!("the boot script wants nothing started"),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::super::load::tests::{WHOLE, serve};
    use super::*;
    use crate::formats::boot_image::tests::bzimage;
    use crate::model::BootMethod;

    /// What is planned where a script is served with these files beside it.
    async fn planned(script: &str, files: &[(&'static str, &[u8])]) -> anyhow::Result<Report> {
        let own = ("/boot.ipxe", format!("#!ipxe\n{script}\n").into_bytes());
        let files = files.iter().map(|(path, bytes)| (*path, bytes.to_vec()));
        let base = serve(HashMap::from_iter(files.chain([own])), WHOLE).await;
        plan(&Config {
            url: format!("{base}/boot.ipxe"),
            ..Config::default()
        })
        .await
    }

    #[tokio::test]
    async fn nobody_is_started_again_for_a_script_that_starts_nothing() {
        let files = HashMap::from([
            ("/boot.ipxe", b"#!ipxe\nkernel linux\nboot\n".to_vec()),
            ("/none.ipxe", b"#!ipxe\nexit 0\n".to_vec()),
            ("/linux", b"<html>".to_vec()),
        ]);
        let base = serve(files, WHOLE).await;
        for (path, words) in [
            ("boot.ipxe", "it is no kernel but a web page"),
            ("none.ipxe", "wants nothing"),
        ] {
            let config = Config {
                url: format!("{base}/{path}"),
                ..Config::default()
            };
            let way = client(&config, IMPATIENT).unwrap();
            let why = look(&config, &way).await.unwrap_err().to_string();
            assert!(why.contains(words), "{why}");
        }
    }

    #[tokio::test]
    #[cfg(target_arch = "x86_64")]
    async fn a_script_that_knows_another_way_is_planned_by_it() {
        let (kernel, web) = (bzimage(), &b"<html>"[..]);
        let files: &[(&str, &[u8])] = &[
            ("/linux", &kernel),
            ("/i", b"070701"),
            ("/a.efi", b"MZ"),
            ("/web", web),
            ("/second", &kernel),
        ];
        let startable = |report: &Report| {
            let End::Boot(boot) = &report.end else {
                panic!("{report:?}")
            };
            assert_eq!(boot.problems.is_empty(), report.is_startable(BootMethod::Kexec));
            (boot.kernel.name.clone(), boot.problems.is_empty())
        };
        for (script, name, is_startable) in [
            ("chain a.efi || kernel linux && boot", "linux", true),
            (
                "chain a.efi || goto other\nexit\n:other\nkernel linux\ninitrd i\nboot",
                "linux",
                true,
            ),
            (
                "kernel web || goto other\nboot\n:other\nkernel linux\nboot",
                "linux",
                true,
            ),
            // What only its whole shows, or this machine has against it.
            (
                "kernel linux\ninitrd web\nboot || goto other\n:other\nimgfree\nkernel linux\nboot",
                "linux",
                true,
            ),
            ("kernel linux\ninitrd web\nboot", "linux", false),
            (":start\nkernel linux\ninitrd web\nboot || goto start", "linux", false),
        ] {
            let report = planned(script, files).await.unwrap();
            assert_eq!(startable(&report), (name.to_owned(), is_startable), "{script}");
            let told = report.said.iter().find(|line| line.starts_with("line "));
            assert_eq!(told.is_some(), script.contains("||"), "{script}: {:?}", report.said);
        }
        // It insists on it, or its other way is none either.
        for script in ["chain a.efi", "chain a.efi || chain gone", "kernel a.efi\nboot"] {
            let report = planned(&format!("echo before\n{script}"), files).await.unwrap();
            let End::Failed(why) = &report.end else {
                panic!("{report:?}")
            };
            assert!(why.contains("EFI program") || why.contains("404"), "{script}: {why}");
            // What it said before is told, and its end once.
            assert_eq!(report.said[0], "before");
            assert!(
                !report.said.iter().any(|said| why.contains(said.as_str())),
                "{report:?}"
            );
            assert!(
                report
                    .text()
                    .to_string()
                    .contains("Nothing is started: the boot script failed: line ")
            );
        }
        // Named for the kernel by mistake, or the other way round.
        for (line, words) in [
            ("initrd boot.ipxe", "boot.ipxe: it is no initrd but an iPXE script"),
            ("initrd second", "second: it is no initrd but a kernel (bzImage)"),
        ] {
            let report = planned(&format!("kernel linux\n{line}\nboot"), files).await.unwrap();
            let End::Boot(boot) = &report.end else {
                panic!("{report:?}")
            };
            assert_eq!(boot.problems, [words]);
            assert!(report.said.is_empty(), "{report:?}");
        }
        let report = planned("chain a.efi || exit 0", files).await.unwrap();
        assert_eq!(report.end, End::Exit(0));
        // What a person is asked about is not passed over for it.
        let report = planned("chain a.efi || shell", files).await.unwrap();
        assert_eq!(report.end, End::Shell);
        assert!(!report.is_startable(BootMethod::Kexec));
        // Once a machine starts again is what is wanted, that is what it comes to.
        let report = planned("reboot", files).await.unwrap();
        assert_eq!(
            [BootMethod::Kexec, BootMethod::Reboot].map(|method| report.is_startable(method)),
            [false, true]
        );
        // The end of the script is told as well as what did not start.
        let report = planned("kernel linux\ninitrd web\nboot || chain gone", files)
            .await
            .unwrap();
        assert!(
            report.said.last().unwrap().contains("the boot script failed"),
            "{:?}",
            report.said
        );
    }
}
