"""What a machine says of its driver and its containers: commands that only read, and a pure parse.

Lines of ours, where no program has a word for what is wrong, begin with what they are about; ``catalog/causes.yml``
knows them beside those of the programs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from orchestrator.doctor import RUNTIME_UNIT
from orchestrator.machine_doctor import MachineLogs

if TYPE_CHECKING:
    from collections.abc import Mapping

    from orchestrator.detect.script import Output

#: Lines of a log that are carried at most, from its end.
LINES = 300
#: MiB below which a disk of containers counts as full.
LEAST_MIB = 1024
_ABOUT = "NVRM|[Nn]vidia|NVIDIA|nouveau|[Nn]ova_?[Cc]ore|Loading of |[Ll]ockdown"

#: One that hangs on a card that is gone is ended after so many seconds.
SMI = "command -v nvidia-smi >/dev/null || exit 127\ntimeout 20 nvidia-smi 2>&1"
#: The kernel's log since it started; where the journal has none (a container, a small system), its ring.
KERNEL = f"""
said=$(journalctl --dmesg --boot --quiet --no-pager --output=cat | grep -E '{_ABOUT}' | tail -n {LINES})
test -n "$said" || said=$(dmesg | grep -E '{_ABOUT}' | tail -n {LINES})
printf '%s\\n' "$said"
"""
#: What tried to load the module at boot.
MODULES = f"""
journalctl --boot --unit=systemd-modules-load.service --unit=nvidia-persistenced.service --unit=dkms.service \\
--quiet --no-pager --output=cat --lines={LINES}"""
#: What dkms has of the driver for the kernel that runs; nothing where it has the module, or nothing of the driver.
DKMS = """
kernel=$(uname -r)
has=$(dkms status | grep -i '^nvidia')
test -n "$has" || exit 0
printf '%s\\n' "$has" | grep -F " $kernel," | grep -q installed && exit 0
echo "dkms holds nvidia and made no module of it for $kernel"
test -e "/lib/modules/$kernel/build" || echo "no headers of the kernel $kernel are at /lib/modules/$kernel/build"
for log in /var/lib/dkms/nvidia*/*/build/make.log; do test -r "$log" && tail -n 20 "$log"; done
:"""
#: Docker's daemon where it is there and does not stay up; one that its owner stopped is no fault.
ENGINE = """
stands=$(systemctl show docker.service --property=LoadState,ActiveState,SubState)
case $stands in *LoadState=loaded*) ;; *) exit 0;; esac
case $stands in *ActiveState=failed*|*SubState=auto-restart*) ;; *) exit 0;; esac
journalctl --unit=docker.service --lines=60 --quiet --no-pager --output=cat
echo 'docker.service stands as failed'
"""
DISK = f"""
for folder in /var/lib/docker /var/lib/containerd /var/lib/containers; do
test -d "$folder" || continue
left=$(df -Pm "$folder" | awk 'NR == 2 {{ print $4 }}')
test "${{left:-{LEAST_MIB}}}" -lt {LEAST_MIB} && echo "$folder has $left MiB left"
done
:"""
#: The specification that counts is the last in the order of the folders (CDI, "Directory Precedence").
CDI = """
for file in /var/run/cdi/nvidia.yaml /etc/cdi/nvidia.yaml; do
test -r "$file" || continue
sed -n "s/^[- ]*hostPath: *//p" "$file" | tr -d "\\"'" | sort -u | while read -r path; do
test -e "$path" || echo "$file names $path, which is not there"
done | head -n 5
break
done
:"""
#: The cards' files where the account of our runtime may not open them: a mode for all, or a group that it is in.
DEVICES = f"""
account=$(systemctl show {RUNTIME_UNIT} --property=User --value)
test -n "$account" || exit 0
groups="$(id -nG "$account") $(systemctl show {RUNTIME_UNIT} --property=SupplementaryGroups --value)"
for file in /dev/nvidia[0-9]* /dev/nvidiactl /dev/nvidia-uvm; do
test -c "$file" || continue
set -- $(stat -c '%a %U %G' "$file")
case $1 in *[67]) continue;; esac
case $1 in *[67]?) case " $groups " in *" $3 "*) continue;; esac;; esac
test "$2" = "$account" || echo "$file is $1 $2:$3, and the account $account of agentrig-runtime is not in $3"
done
:"""

COMMANDS = {
    "smi": SMI,
    "kernel": KERNEL,
    "modules": MODULES,
    "dkms": DKMS,
    "engine": ENGINE,
    "disk": DISK,
    "cdi": CDI,
    "devices": DEVICES,
}


def parse(outputs: Mapping[str, Output]) -> MachineLogs:
    """Give what the machine said; what did not come is empty."""
    said = {name: outputs[name].text if name in outputs else "" for name in COMMANDS}
    return MachineLogs(
        driver_answers="smi" in outputs and outputs["smi"].status == 0,
        kernel=said["kernel"],
        driver="\n".join((said["modules"], said["dkms"], said["smi"])),
        engine=said["engine"],
        disk=said["disk"],
        cdi=said["cdi"],
        devices=said["devices"],
    )
