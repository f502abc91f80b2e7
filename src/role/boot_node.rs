//! What the boot image does: the drivers of its ports, an address, and what its settings name, fetched and started in its place.
//!
//! All drivers of network ports are in the initrd, so nobody is needed for them. Whatever fails is said on the console and tried again: a
//! switch may still block its port, a server may be on its way back, and nobody may be there to press a key.

mod asking;
pub(crate) mod check;
mod leases;
mod link;
mod uplink;

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, anyhow};

use crate::config::KernelLine;
use crate::config::boot_file::{Infra, TokenKind};
use crate::config::boot_sources::{Chosen, Settings, Source, Texts};
use crate::config::cmdline::BootWord;
use crate::config::load::small_file;
use crate::model::backoff;
use crate::model::console::console;
use crate::model::{BootMethod, OnFailure, secrets, shown};
use crate::probe::smbios::{SmbiosTable, entry_point, source};
use crate::role::boot_from::asked::Config;
use crate::role::boot_from::assisted::{Assisted, Token};
use crate::role::boot_from::run::{self, Ended, KernelRefuses, READING};
use crate::role::first_stage;
use crate::sys::{clock, power};

use uplink::Uplink;

/// Where the boot loader puts the settings, and the files beside them.
const FOLDER: &str = "/etc/recon";
const SETTINGS: &str = "boot.toml";
/// Where the kernel shows what the hypervisor gave (its module qemu_fw_cfg).
const FW_CFG: &str = "/sys/firmware/qemu_fw_cfg/by_name/opt/recon";
/// Nobody writes more by hand.
const MAX_SETTINGS_BYTES: u64 = 64 << 10;
/// OEM strings (DSP0134 §7.12).
const OEM_STRINGS: u8 = 11;
/// Most strings that are looked at.
const MAX_OEM_STRINGS: usize = 1000;
/// A file with a mistake is not mended while this runs, but read again all the same: somebody may look at the screen only now.
const MISTAKE: Duration = Duration::from_secs(60);
/// Between two looks for somebody on the network who says what to start.
const LOOK_AGAIN: Duration = Duration::from_secs(10);
/// How long what may still change is tried where the machine is not to try for ever.
const PATIENCE: Duration = Duration::from_secs(600);
/// A boot script that the network named begins again for this long; then the network is asked anew.
const ASKED_ANEW: Duration = Duration::from_secs(180);
/// For whoever takes the boot image out.
const UNPLUG: Duration = Duration::from_secs(60);

/// The time from which on there was a program like this one, in seconds since 1970, as a build of an image says it: that of the commit it
/// was made from, or reproducible-builds.org's SOURCE_DATE_EPOCH (`source_time` in tools/stage.sh).
const MADE: Option<&str> = option_env!("RECON_SOURCE_TIME");

/// What may lie beside the settings.
struct Beside {
    authorities: PathBuf,
    token: PathBuf,
}

impl Beside {
    fn of(folder: &Path) -> Self {
        Self {
            authorities: folder.join("ca.pem"),
            token: folder.join("token"),
        }
    }
}

/// Works until something else runs in its place.
pub(crate) async fn run(line: &KernelLine, word: &BootWord) -> anyhow::Result<()> {
    let ports = first_stage::ports().await?;
    mend_clock();
    let settings = loop {
        match settings(line, word) {
            Ok(settings) => break settings,
            Err(error) => console!("{error:#}. Mend it, and start this machine again"),
        }
        tokio::time::sleep(MISTAKE).await;
    };
    let on_failure = settings.on_failure();
    let (uplink, chosen) = match within_patience(on_failure, clock::since_boot(), begin(&ports, &settings)).await {
        Some(begun) => begun?,
        None => {
            console!(
                "{} minutes after its start this machine has no way to the network, or nobody says what it is to start",
                PATIENCE.as_secs() / 60
            );
            return give_up(on_failure).await;
        }
    };
    start(line, &settings, &uplink, chosen).await
}

/// What comes before the first try.
async fn begin(ports: &first_stage::Ports, settings: &Settings) -> anyhow::Result<(Uplink, Chosen)> {
    ports.want(&link::modules(&settings.file.network)).await;
    let uplink = Uplink::bring_up(&settings.file.network).await?;
    let chosen = chosen(settings, &uplink).await;
    Ok((uplink, chosen))
}

/// None where that took longer than this machine is to try. `gone`: since its start, so that who begins again because of a mistake gets no
/// more time.
async fn within_patience<T>(on_failure: OnFailure, gone: Duration, done: impl Future<Output = T>) -> Option<T> {
    match on_failure {
        OnFailure::Retry => Some(done.await),
        OnFailure::Reboot | OnFailure::Poweroff => {
            let left = PATIENCE.saturating_sub(gone);
            tokio::time::timeout(left, done).await.ok()
        }
    }
}

/// For the console.
fn tell(chosen: &Chosen) {
    console!("what to start is named by {}: {}", chosen.source, what(chosen));
    for sentence in &chosen.said {
        console!("{sentence}");
    }
}

/// A clock whose battery is empty would have every certificate be one of the future.
fn mend_clock() {
    let now = clock::unix_millis() / 1000;
    let Some(made) = too_early(MADE, now) else { return };
    let date = |seconds: i64| {
        jiff::Timestamp::from_second(seconds).map_or_else(|_| seconds.to_string(), |time| time.to_string())
    };
    match clock::set(made) {
        Ok(()) => console!(
            "the clock of this machine says {}, which is before this image was made: it is taken for {} here, and the machine's own clock \
             stays as it is",
            date(now),
            date(made)
        ),
        Err(error) => console!(
            "the clock of this machine says {}, and cannot be set: {error}",
            date(now)
        ),
    }
}

/// What a clock is set to that cannot be right.
fn too_early(made: Option<&str>, now: i64) -> Option<i64> {
    made?.parse().ok().filter(|made| now < *made)
}

/// Tries until it is started, or as the settings say.
async fn start(line: &KernelLine, settings: &Settings, uplink: &Uplink, mut chosen: Chosen) -> anyhow::Result<()> {
    tell(&chosen);
    let mut held = None;
    for tries in 0.. {
        let (on_failure, source) = (chosen.boot.on_failure, chosen.source);
        let config = Config {
            script_patience: script_patience(on_failure, source, clock::since_boot()),
            ..config(line, chosen.clone(), &Beside::of(FOLDER.as_ref()))?
        };
        let error = match run::boot_to_end(&config, &mut held).await {
            // It goes on elsewhere.
            Ok(Ended::Started) => return Ok(()),
            Ok(Ended::LocalDisk) => return start_disk().await,
            Err(error) => error,
        };
        console!("{error:#}");
        let is_final = error.is::<KernelRefuses>();
        if is_end(on_failure, is_final, clock::since_boot()) {
            return give_up(on_failure).await;
        }
        if is_final {
            console!(
                "with on-failure = \"reboot\" in its settings this machine would start again instead, and go by the order of its firmware; \
                 with Secure Boot, a kernel that is signed by a key of the firmware's starts"
            );
        }
        let wait = backoff::wait(tries, rand::random());
        console!("next try in {} s", wait.as_secs());
        tokio::time::sleep(wait).await;
        if let Some(other) = named_anew(settings, uplink, source)
            .await
            .filter(|other| *other != chosen)
        {
            tell(&other);
            // Another server is not asked with what the one before was.
            held = None;
            chosen = other;
        }
    }
    Ok(())
}

/// How long a boot script may begin again: what follows is nothing that it could do.
fn script_patience(on_failure: OnFailure, source: Source, gone: Duration) -> Option<Duration> {
    let end = (on_failure != OnFailure::Retry).then(|| PATIENCE.saturating_sub(gone));
    let anew = source.is_of_network().then_some(ASKED_ANEW);
    end.into_iter().chain(anew).min()
}

/// What a network names by now; none where it is not the network's word that counts.
async fn named_anew(settings: &Settings, uplink: &Uplink, source: Source) -> Option<Chosen> {
    if !source.is_of_network() {
        return None;
    }
    uplink.ask_again().await;
    settings.choose(&uplink.named().await)
}

/// What is done where nothing starts.
async fn give_up(on_failure: OnFailure) -> anyhow::Result<()> {
    console!("on-failure = \"{on_failure}\": in {} s", READING.as_secs());
    match on_failure {
        OnFailure::Poweroff => {
            tokio::time::sleep(READING).await;
            power::off().await.context("switching this machine off")
        }
        OnFailure::Retry | OnFailure::Reboot => run::restart_after(READING).await,
    }
}

/// Nothing of here can start what is on the disk; the firmware can, where it does not come to the boot image first.
async fn start_disk() -> anyhow::Result<()> {
    console!(
        "in {} s this machine starts again, and its firmware goes by its own order of boot devices: take the boot image out, or put the \
         disk before it",
        UNPLUG.as_secs()
    );
    run::restart_after(UNPLUG).await
}

/// Whether there is no other try, so long after the machine's start.
fn is_end(on_failure: OnFailure, is_final: bool, tried: Duration) -> bool {
    on_failure != OnFailure::Retry && (is_final || tried >= PATIENCE)
}

/// What names something to start, with whoever on the network does; waits for one.
async fn chosen(settings: &Settings, uplink: &Uplink) -> Chosen {
    let mut later = Vec::new();
    loop {
        if let Some(chosen) = settings.choose(&later) {
            return chosen;
        }
        later = uplink.named().await;
        if settings.choose(&later).is_none() {
            console!(
                "nobody says what this machine is to start: neither its settings (url in recon.txt), nor its hypervisor, nor its DHCP server \
                 (option 67, a URL), and no recon master is heard; looking again"
            );
            tokio::time::sleep(LOOK_AGAIN).await;
            uplink.ask_again().await;
        }
    }
}

/// For the console.
fn what(chosen: &Chosen) -> String {
    let infra = chosen.infra.as_ref().and_then(|infra| infra.infra_env.as_deref());
    infra.map_or_else(
        || secrets::url(&chosen.url),
        |id| format!("infra-env {}", shown::line(id)),
    )
}

fn assisted(infra: Infra, source: Source, beside: &Beside) -> Assisted {
    let file = match source {
        Source::FwCfg => Path::new(FW_CFG).join("token/raw"),
        _ => beside.token.clone(),
    };
    let token = match infra.token() {
        None => Token::None,
        Some(TokenKind::Access) => Token::File(file),
        Some(TokenKind::Refresh) => Token::Refresh {
            file,
            url: infra.token_url,
        },
    };
    Assisted {
        infra_env: infra.infra_env.unwrap_or_default(),
        api: infra.api,
        token,
    }
}

fn config(line: &KernelLine, chosen: Chosen, beside: &Beside) -> anyhow::Result<Config> {
    let boot = &chosen.boot;
    let sums: Result<_, String> = boot
        .sha256
        .iter()
        .map(|(name, sum)| format!("{name}={sum}").parse())
        .collect();
    Ok(Config {
        url: chosen.url,
        assisted: chosen.infra.map(|infra| assisted(infra, chosen.source, beside)),
        authorities: Some(beside.authorities.clone())
            .filter(|path| path.exists())
            .into_iter()
            .collect(),
        is_only_authorities: boot.only_ca,
        proxy: boot.proxy.clone(),
        headers: chosen.headers,
        append: boot.append.clone(),
        sums: sums.map_err(|why| anyhow!(why))?,
        method: line.boot_method.or(boot.method).unwrap_or(BootMethod::Kexec),
        is_agreed: true,
        ..Config::default()
    })
}

fn settings(line: &KernelLine, word: &BootWord) -> anyhow::Result<Settings> {
    let settings = texts(line, word)?.read().map_err(|why| anyhow!(why))?;
    if settings.is_only_ca() && !Beside::of(FOLDER.as_ref()).authorities.exists() {
        return Err(anyhow!(
            "only-ca = true, and there is no file ca.pem beside the settings"
        ));
    }
    Ok(settings)
}

/// A file that is not cut: what stands at its end would count for nothing.
fn whole(path: &Path, most: u64) -> anyhow::Result<Option<Vec<u8>>> {
    let bytes = small_file(path, most)?;
    if bytes.as_ref().is_some_and(|bytes| bytes.len() as u64 > most) {
        return Err(anyhow!("it has more than {most} bytes"));
    }
    Ok(bytes)
}

fn read(path: &Path) -> anyhow::Result<Option<Vec<u8>>> {
    whole(path, MAX_SETTINGS_BYTES).with_context(|| path.display().to_string())
}

fn texts(line: &KernelLine, word: &BootWord) -> anyhow::Result<Texts> {
    let given = |name: &str| read(&Path::new(FW_CFG).join(name).join("raw"));
    Ok(Texts {
        line_url: match word {
            BootWord::Url(url) => Some(url.clone()),
            BootWord::Settings => None,
        },
        line_token: line.token.clone(),
        line_mistakes: line.boot_mistakes.clone(),
        file: read(&Path::new(FOLDER).join(SETTINGS))?,
        file_token: read(&Beside::of(FOLDER.as_ref()).token)?,
        fw_cfg_url: given("url")?,
        fw_cfg_token: given("token")?,
        fw_cfg_toml: given("toml")?,
        smbios: oem_strings(),
    })
}

/// None where the firmware has no table: few machines are given one of these.
fn oem_strings() -> Vec<Vec<u8>> {
    let read = |path: &str| small_file(path.as_ref(), source::TABLE_LIMIT).ok().flatten();
    let Some(bytes) = read(source::SOURCE) else {
        return Vec::new();
    };
    let version = read(source::ENTRY_POINT).and_then(|bytes| entry_point(&bytes));
    let table = SmbiosTable::parse(version, &bytes);
    let strings = table.of_kind(OEM_STRINGS).flat_map(|structure| structure.strings());
    strings.take(MAX_OEM_STRINGS).map(<[u8]>::to_vec).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_no_try_can_mend_is_not_tried_for_ten_minutes() {
        let (now, later) = (Duration::ZERO, PATIENCE);
        for (on_failure, is_final, tried, end) in [
            (OnFailure::Retry, false, later, false),
            (OnFailure::Retry, true, later, false),
            (OnFailure::Reboot, false, now, false),
            (OnFailure::Reboot, true, now, true),
            (OnFailure::Reboot, false, later, true),
            (OnFailure::Poweroff, true, now, true),
        ] {
            assert_eq!(
                is_end(on_failure, is_final, tried),
                end,
                "{on_failure} {is_final} {tried:?}"
            );
        }
    }

    #[test]
    fn a_script_of_the_network_begins_again_for_minutes_only() {
        let minutes = |number: u64| Duration::from_secs(60 * number);
        for (on_failure, source, gone, patience) in [
            (OnFailure::Retry, Source::File, minutes(99), None),
            (OnFailure::Retry, Source::Dhcp, minutes(99), Some(minutes(3))),
            (OnFailure::Reboot, Source::File, minutes(1), Some(minutes(9))),
            (OnFailure::Reboot, Source::Master, minutes(1), Some(minutes(3))),
            (OnFailure::Poweroff, Source::Master, minutes(11), Some(minutes(0))),
        ] {
            assert_eq!(
                script_patience(on_failure, source, gone),
                patience,
                "{on_failure} {source} {gone:?}"
            );
        }
    }

    /// A cable that is not plugged in, and a DHCP server that does not answer, are waited for like a server that is away.
    #[tokio::test(start_paused = true)]
    async fn whatever_is_waited_for_has_its_end() {
        let day = Duration::from_secs(86_400);
        let half = PATIENCE / 2;
        for (on_failure, gone, takes, is_done) in [
            (OnFailure::Retry, PATIENCE, day, true),
            (OnFailure::Reboot, Duration::ZERO, half, true),
            (OnFailure::Reboot, half, half + Duration::from_secs(1), false),
            (OnFailure::Poweroff, day, half, false),
        ] {
            let done = within_patience(on_failure, gone, tokio::time::sleep(takes)).await;
            assert_eq!(done.is_some(), is_done, "{on_failure} {gone:?} {takes:?}");
        }
    }

    #[test]
    fn a_file_that_is_too_long_is_refused_and_not_cut() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("boot.toml");
        std::fs::write(&path, "12345").unwrap();
        assert_eq!(whole(&path, 5).unwrap().unwrap(), b"12345");
        assert!(whole(&path, 4).unwrap_err().to_string().contains("more than 4 bytes"));
        assert!(whole(&folder.path().join("none"), 4).unwrap().is_none());
    }

    #[test]
    fn a_clock_is_only_set_where_it_cannot_be_right() {
        for (made, now, set) in [
            (Some("1767225600"), 0, Some(1_767_225_600)),
            (Some("1767225600"), -5, Some(1_767_225_600)),
            (Some("1767225600"), 1_767_225_600, None),
            (Some("1767225600"), 1_800_000_000, None),
            (Some("soon"), 0, None),
            (None, 0, None),
        ] {
            assert_eq!(too_early(made, now), set, "{made:?} {now}");
        }
    }

    #[test]
    fn an_infra_env_is_asked_with_the_token_of_its_own_place() {
        let toml = "[assisted]\ninfra-env = \"i\"\nrefresh-token-file = \"token\"\ntoken-url = \"https://login/\"\n";
        let bytes = |text: &str| Some(text.as_bytes().to_vec());
        let refresh = |file: &str| Token::Refresh {
            file: file.into(),
            url: Some("https://login/".to_owned()),
        };
        let of_file = Texts {
            file: bytes(toml),
            file_token: bytes("t"),
            ..Texts::default()
        };
        let of_fw_cfg = Texts {
            fw_cfg_toml: bytes(toml),
            fw_cfg_token: bytes("t"),
            ..Texts::default()
        };
        for (texts, file) in [
            (of_file, "/etc/recon/token"),
            (of_fw_cfg, "/sys/firmware/qemu_fw_cfg/by_name/opt/recon/token/raw"),
        ] {
            let settings = texts.read().unwrap_or_else(|why| panic!("{why}"));
            let chosen = settings.choose(&[]).unwrap();
            assert_eq!(what(&chosen), "infra-env i");
            let config = config(&KernelLine::default(), chosen, &Beside::of(FOLDER.as_ref())).unwrap();
            assert_eq!(config.headers, [""; 0], "the token is no header of its own");
            let assisted = config.assisted.unwrap();
            assert_eq!((assisted.infra_env.as_str(), assisted.token), ("i", refresh(file)));
        }
        let no_token = Texts {
            file: bytes(toml),
            ..Texts::default()
        };
        assert!(no_token.read().err().unwrap().contains("no file named token"));
        // A URL of the kernel line comes before it.
        let line = Texts {
            line_url: Some("http://a/".to_owned()),
            file: bytes(toml),
            file_token: bytes("t"),
            ..Texts::default()
        };
        let chosen = line.read().ok().unwrap().choose(&[]).unwrap();
        assert_eq!((chosen.url.as_str(), chosen.infra), ("http://a/", None));
    }

    #[test]
    fn the_word_of_the_kernel_line_says_how() {
        let beside = Beside::of(FOLDER.as_ref());
        let chosen = |text: &str| {
            let texts = Texts {
                line_url: Some("http://a/".to_owned()),
                line_token: Some("t1".to_owned()),
                file: Some(text.as_bytes().to_vec()),
                ..Texts::default()
            };
            texts.read().unwrap_or_else(|why| panic!("{why}")).choose(&[]).unwrap()
        };
        let sum = "ab".repeat(32);
        let settings = format!("[boot]\nmethod = \"reboot\"\n[boot.sha256]\n\"vm=linuz\" = \"{sum}\"\n");
        let mut line = KernelLine::default();
        let read = config(&line, chosen(&settings), &beside).unwrap();
        assert_eq!((read.method, read.sums.len()), (BootMethod::Reboot, 1));
        assert_eq!(read.headers, ["Authorization: Bearer t1"]);
        line.boot_method = Some(BootMethod::Kexec);
        assert_eq!(
            config(&line, chosen(&settings), &beside).unwrap().method,
            BootMethod::Kexec
        );
        assert_eq!(config(&line, chosen(""), &beside).unwrap().method, BootMethod::Kexec);
    }
}
