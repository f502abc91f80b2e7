#!/usr/bin/env python3
"""Loads a staged image description with KIWI's own schema and parser, and prints its packages, one a line.

Run with the Python of the KIWI venv: describe.py STAGE. Exits non-zero with KIWI's message when the description is not valid.
"""

import glob
import logging
import sys

from kiwi.xml_description import XMLDescription
from kiwi.xml_state import XMLState


def main() -> int:
    if len(sys.argv) != 2:
        print(__doc__, file=sys.stderr)
        return 2
    logging.getLogger("kiwi").setLevel(logging.ERROR)
    files = glob.glob(f"{sys.argv[1]}/*.kiwi")
    if len(files) != 1:
        print(f"{sys.argv[1]}: one .kiwi file expected, found {len(files)}", file=sys.stderr)
        return 1
    try:
        state = XMLState(XMLDescription(files[0]).load(), [], "iso")
    except Exception as error:  # KIWI's exceptions carry the text a person needs
        print(f"{files[0]}: {type(error).__name__}: {error}", file=sys.stderr)
        return 1
    wanted = {
        "boot type": (state.build_type.get_image(), "iso"),
        "live flavour": (state.build_type.get_flags(), "dmsquash"),
        "volume id": (state.build_type.get_volid(), "RECON"),
        "firmware": (state.build_type.get_firmware(), "uefi"),
    }
    wrong = [f"{name} is {found!r}, must be {right!r}" for name, (found, right) in wanted.items() if found != right]
    users = [user.get_name() for section in state.xml_data.get_users() for user in section.get_user()]
    if users:
        wrong.append(f"users with credentials in the description: {' '.join(users)}")
    for line in wrong:
        print(f"{files[0]}: {line}", file=sys.stderr)
    for name in sorted(set(state.get_system_packages() + state.get_bootstrap_packages())):
        print(name)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
