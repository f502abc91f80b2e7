//! iPXE scripts as text. Pure; every script is golden-tested.

use std::net::SocketAddr;

use crate::model::{Endpoint, MacAddr, NodePolicy, PostAction, PowerOff};

use super::kernel_line::kernel_line;
use super::request::{Boot, full_script_url};
#[cfg(test)]
use super::script::complete;

/// Script for a client that did not say who it is, or what its port is: it asks again, with all of that. `mac`: as it said it.
pub fn entry(master: SocketAddr, mac: Option<MacAddr>) -> String {
    format!(
        "#!ipxe\n\
         :retry\n\
         chain --replace {script} || goto failed\n\
         :failed\n\
         echo recon: the boot script did not come from {base}; trying again in 5 seconds\n\
         sleep 5\n\
         goto retry\n",
        base = Endpoint(master),
        script = full_script_url(master, mac),
    )
}

/// Why a machine with this processor (as iPXE names it) finds no kernel here. A BIOS machine's iPXE is built for `i386`
/// whatever its processor is.
pub fn no_kernel_for(arch: &str) -> Option<String> {
    match arch {
        "x86_64" | "i386" => None,
        other => Some(format!(
            "its processor is {other}, and this stick holds a system for x86_64 only"
        )),
    }
}

/// Script that boots one client by its policy. It tries for ever, with a pause: whoever asked for it has a way to this master,
/// and the master may be on its way back.
pub fn boot(boot: &Boot) -> String {
    let base = Endpoint(boot.master);
    if let Some(trouble) = boot.arch.as_deref().and_then(no_kernel_for) {
        return format!(
            "#!ipxe\n\
             echo recon: this machine cannot be booted: {trouble}; going back to the firmware in 30 seconds\n\
             sleep 30\n\
             exit 1\n"
        );
    }
    format!(
        "#!ipxe\n\
         {pause}\
         :retry\n\
         echo recon: {action} from {base}\n\
         imgfree\n\
         {kernel} || goto no_kernel\n\
         {initrds}\
         boot ||\n\
         echo recon: the kernel of {base} did not start\n\
         goto again\n\
         :no_kernel\n\
         chain --replace {base}/why.ipxe?{query} ||\n\
         echo recon: the kernel did not come from {base}\n\
         goto again\n\
         :no_initrd\n\
         echo recon: the initrd did not come from {base}\n\
         :again\n\
         echo recon: trying again in 5 seconds\n\
         sleep 5\n\
         {anew}\
         goto retry\n",
        // Another version of its image may count by now.
        anew = match boot.image().is_some() || boot.policy.post_action == PostAction::Failsafe {
            true => format!("chain --replace {} ||\n", full_script_url(boot.master, boot.mac)),
            false => String::new(),
        },
        pause = match boot.pause_seconds {
            0 => String::new(),
            seconds => format!("{}sleep {seconds} ||\n", pause(seconds)),
        },
        action = boot.policy.post_action.as_str(),
        query = boot.kernel_query(),
        kernel = kernel(boot),
        initrds = initrds(boot, "no_initrd"),
    )
}

/// Loads the kernel, with its line.
fn kernel(boot: &Boot) -> String {
    let (base, path, query) = (Endpoint(boot.master), boot.kernel(), boot.kernel_query());
    format!("kernel {base}/{path}?{query} {}", kernel_line(boot))
}

/// Loads what is unpacked beside the kernel. Each has a name: the kernel's EFI stub finds it by the one in its line.
fn initrds(boot: &Boot, or: &str) -> String {
    let base = Endpoint(boot.master);
    let line = |(name, path)| format!("initrd --name {name} {base}/{path} || goto {or}\n");
    boot.initrds().into_iter().map(line).collect()
}

/// What a machine that loops shows while it waits.
fn pause(seconds: u64) -> String {
    format!(
        "echo recon: this system was started here again and again and did not come up; the next try is in {seconds} seconds, or \
         at once with Ctrl-C\n"
    )
}

/// Script for a machine that gets no kernel. It ends, so that the firmware goes on to its next boot device.
pub fn refusal(reason: &str) -> String {
    format!(
        "#!ipxe\n\
         echo recon: this machine cannot be booted: {reason}; going back to the firmware in 60 seconds\n\
         sleep 60\n\
         exit 1\n"
    )
}

/// Script for a node whose image is not here: it waits until somebody brings it.
pub fn no_image(master: SocketAddr, mac: Option<MacAddr>, reason: &str) -> String {
    format!(
        "#!ipxe\n\
         :retry\n\
         echo recon: this node cannot be booted: {reason}; asking again in 30 seconds\n\
         sleep 30\n\
         chain --replace {script} || goto retry\n",
        script = full_script_url(master, mac),
    )
}

/// Menu for a person at the console of a client. Nobody there: the inventory, after half a minute.
pub fn menu(boot: &Boot) -> String {
    let base = Endpoint(boot.master);
    let load = |post_action: PostAction, poweroff: PowerOff| {
        let policy = NodePolicy { post_action, poweroff };
        let boot = Boot { policy, ..boot.clone() };
        let query = boot.kernel_query();
        format!(
            "{kernel} || chain --replace {base}/why.ipxe?{query} || goto failed\n{initrds}",
            kernel = kernel(&boot),
            initrds = initrds(&boot, "failed")
        )
    };
    // Nobody may be there to choose, so it ends as the machine's own policy says.
    let poweroff = boot.policy.poweroff;
    let end = match poweroff {
        PowerOff::Never => "stay up",
        PowerOff::Ipmi | PowerOff::Acpi => "power off",
    };
    let item = |on: bool, test: &str| match on {
        true => format!("{test} item memtest    Memory test ||\n"),
        false => String::new(),
    };
    let memtest = [
        item(boot.memtest_efi, "iseq ${platform} efi &&"),
        item(boot.memtest_bios, "iseq ${platform} pcbios &&"),
    ]
    .concat();
    format!(
        "#!ipxe\n\
         :menu\n\
         imgfree\n\
         menu recon at {base}\n\
         item inventory  Inventory, upload, {end}\n\
         item liveboot   Live system in memory\n\
         item disk       Boot the next device\n\
         {memtest}\
         item shell      iPXE shell\n\
         choose --default inventory --timeout 30000 what || goto menu\n\
         goto ${{what}}\n\
         :inventory\n\
         {inventory}\
         goto start\n\
         :liveboot\n\
         {liveboot}\
         :start\n\
         boot || goto failed\n\
         :disk\n\
         exit 0\n\
         :memtest\n\
         iseq ${{platform}} efi && chain {base}/loaders/memtest.efi ||\n\
         iseq ${{platform}} pcbios && kernel {base}/loaders/memtest.bin && boot ||\n\
         goto menu\n\
         :shell\n\
         echo recon: exit leaves the shell\n\
         shell\n\
         goto menu\n\
         :failed\n\
         echo recon: kernel or initrd did not come from {base}; back to the menu in 5 seconds\n\
         sleep 5\n\
         goto menu\n",
        inventory = load(PostAction::Inventory, poweroff),
        liveboot = load(PostAction::Liveboot, PowerOff::Never),
    )
}

#[cfg(test)]
mod tests;
