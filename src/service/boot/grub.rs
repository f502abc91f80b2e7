//! GRUB scripts as text, for machines on which no iPXE starts: with Secure Boot, shim and GRUB carry the distribution's
//! signature, and so does the kernel. Pure; every script is golden-tested.

use std::net::SocketAddr;

use super::kernel_line::kernel_line_of_grub;
use super::request::Boot;
use crate::model::Endpoint;

/// What GRUB looks for when it starts. It fetches the machine's own script, and after a failure looks on for a minute and a half,
/// while a switch may still keep the port shut.
pub(crate) fn config(master: SocketAddr) -> String {
    format!(
        "echo \"recon: asking {base} what to boot\"\n\
         for try in 1 2 3 4 5 6 7 8 9; do\n\
         configfile (http,{server})/boot.grub?mac=$net_default_mac\n\
         echo \"recon: the boot script did not come from {base}; trying again in 10 seconds\"\n\
         sleep 10\n\
         done\n\
         echo \"recon: no way to {base}; going back to the firmware\"\n\
         exit\n",
        base = Endpoint(master),
        server = Endpoint(master).host(),
    )
}

/// Script for a node whose image is not here. What fetched it asks again.
pub(crate) fn no_image(reason: &str) -> String {
    format!("echo \"recon: this node cannot be booted: {reason}; asking again in 30 seconds\"\nsleep 20\n")
}

/// Script that boots one machine by its policy. GRUB knows no netmask, so the initrd asks for its address itself.
pub(crate) fn boot(boot: &Boot) -> String {
    let server = Endpoint(boot.master).host();
    let initrds = boot.initrds().into_iter();
    let initrds: String = initrds.map(|(_, path)| format!(" (http,{server})/{path}")).collect();
    format!(
        "{pause}\
         echo \"recon: {action} from {base}\"\n\
         for try in 1 2 3; do\n\
         if linux (http,{server})/{kernel} {line}; then\n\
         if initrd{initrds}; then\n\
         boot\n\
         fi\n\
         fi\n\
         echo \"recon: kernel or initrd did not come from {base}; trying again in 5 seconds\"\n\
         sleep 5\n\
         done\n",
        pause = match boot.pause_seconds {
            0 => String::new(),
            seconds => format!(
                "echo \"recon: this system was started here again and again and did not come up; the next try is in {seconds} \
                 seconds\"\nsleep {seconds}\n"
            ),
        },
        action = boot.policy.post_action.as_str(),
        base = Endpoint(boot.master),
        kernel = boot.kernel(),
        line = kernel_line_of_grub(boot),
    )
}
