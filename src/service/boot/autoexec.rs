//! The script by which iPXE for UEFI starts, before it knows anything but its master. Pure; golden-tested in [`super::ipxe`].

use std::net::SocketAddr;

use super::request::full_script_url;
use crate::model::Endpoint;

/// Script that iPXE for UEFI looks for beside itself when it starts (`autoexec.ipxe`). It takes the lease that the firmware
/// holds, where there is one, and so saves iPXE's banner, its own DHCP and its wait for IPv6 routers: 6 seconds.
///
/// In IPv6 no lease of the firmware is known to it, and it asks as below.
///
/// Without a lease, or where the lease leads nowhere, every port is opened at once, so that their links come up side by side, and
/// asked in turn: once in a hurry, then patiently, for switches that keep a port shut for half a minute (spanning tree,
/// LACP). iPXE's own waits are 15 s for a link and 15 s for an address, longer while it hears that the switch blocks the port;
/// six of them are 90 s. Then the firmware gets its machine back: the script ends whatever happens.
pub fn autoexec(master: SocketAddr) -> String {
    format!(
        "#!ipxe\n\
         isset ${{net0/mac}} || goto none\n\
         set port:int32 0\n\
         :look\n\
         isset ${{net${{port}}/mac}} || goto ask\n\
         isset ${{net${{port}}/ip}} && goto held ||\n\
         inc port\n\
         goto look\n\
         :held\n\
         iflinkwait --timeout 15000 net${{port}} || goto ask\n\
         set tries:int32 0\n\
         :fetch\n\
         chain --replace {script} ||\n\
         inc tries\n\
         iseq ${{tries}} 2 && goto ask ||\n\
         echo recon: the boot script did not come from {base} at the address ${{net${{port}}/ip}}; trying again\n\
         sleep 2\n\
         goto fetch\n\
         :ask\n\
         ifclose\n\
         ifopen ||\n\
         set wait:int32 4000\n\
         set waits:int32 0\n\
         :round\n\
         set port:int32 0\n\
         :next\n\
         isset ${{net${{port}}/mac}} || goto patient\n\
         iflinkwait --timeout ${{wait}} net${{port}} || goto waited\n\
         ifconf --configurator {configurator} net${{port}} || goto waited\n\
         chain --replace {script} ||\n\
         echo recon: net${{port}} has ${{net${{port}}/ip}}, but the boot script did not come from {base}\n\
         :waited\n\
         iseq ${{wait}} 4000 && goto other ||\n\
         inc waits\n\
         iseq ${{waits}} 6 && goto lost ||\n\
         :other\n\
         inc port\n\
         goto next\n\
         :patient\n\
         echo recon: no port has an answer from {base} yet; waiting for links and switches\n\
         set wait:int32 15000\n\
         goto round\n\
         :none\n\
         echo recon: iPXE has no driver for a network port of this machine; going back to the firmware in 10 seconds\n\
         sleep 10\n\
         exit 1\n\
         :lost\n\
         echo recon: no port reaches {base}: check cable and switch port; going back to the firmware in 10 seconds\n\
         sleep 10\n\
         exit 1\n",
        base = Endpoint(master),
        configurator = if master.is_ipv6() { "ipv6" } else { "dhcp" },
        script = full_script_url(master, None),
    )
}
