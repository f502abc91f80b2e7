"""How is a master run that is no stick but a service with a folder of its own, as on an installed server of a farm?"""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from . import polling, tools
from .api import Api, ApiError
from .errors import LabError
from .lab import Lab
from .machine import BRIDGE
from .process import kill
from .resource import Resource


class FarmMaster(Resource):
    """It runs on the laboratory's bridge, with the image's boot files as its medium, until the block ends. `data`: what a stick's data
    partition has."""

    def __init__(self, lab: Lab, data: Path) -> None:
        super().__init__()
        self._lab = lab
        self.data = data
        self.api = Api(lab.namespace)

    def set_up(self) -> None:
        lab, medium = self._lab, self._lab.folder / "medium"
        self._log = (lab.folder / "farm.log").open("wb")
        self._stack.callback(self._log.close)
        shutil.rmtree(medium, ignore_errors=True)
        self._stack.callback(shutil.rmtree, medium, ignore_errors=True)
        tools.run(["xorriso", "-osirrox", "on", "-indev", str(lab.options.iso), "-extract", "/boot", str(medium / "boot")], timeout=120)
        self._command = [str(lab.options.recon), "master", "--link", BRIDGE, "--data", str(self.data), "--medium", str(medium)]
        self.start()
        self._stack.callback(self.kill)

    def kill(self) -> None:
        """As a power cut does."""
        kill(self._process)

    def start(self) -> None:
        """Returns once it serves."""
        self._process = self._lab.namespace.popen(self._command, stdout=self._log, stderr=subprocess.STDOUT)

        def serves() -> bool | None:
            if self._process.poll() is not None:
                raise LabError(f"the master ended: {(self._lab.folder / 'farm.log').read_text()[-2000:]}")
            try:
                return True if self.api.status(timeout=1.0)["links"][0]["mode"] == "serve" else None
            except (ApiError, LookupError):
                return None

        polling.wait_until(serves, self._lab.seconds(30), "the farm's master serves")
