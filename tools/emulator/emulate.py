#!/usr/bin/env python3
"""Runs a program of the build on an emulated CPU: a kernel, a file system in memory, Bochs, and its serial line.

Owns the guest and its disk image. It refuses to know what the program does: its output and status are passed on.
"""

import argparse
import os
import pathlib
import pty
import re
import select
import shlex
import shutil
import subprocess
import sys
import time

HERE = pathlib.Path(__file__).resolve().parent
BOCHS_FILES = pathlib.Path("/usr/share/bochs")
BOOT_FILES = (pathlib.Path("/usr/lib/ISOLINUX/isolinux.bin"), pathlib.Path("/usr/lib/syslinux/modules/bios/ldlinux.c32"))
BUSYBOX = pathlib.Path("/bin/busybox")
# Bochs 2.7 gives the state of protection keys (515) no place in its saved registers and miscounts the compact forms
# (XSAVEC 321, XSAVES 323); Linux believes neither and would switch AVX off.
KERNEL_OPTIONS = ("console=ttyS0 quiet nokaslr mitigations=off nosmp lpj=100000 tsc=reliable random.trust_cpu=on "
                  "idle=halt lapic=notscdeadline nohz=off lsm= init_on_alloc=0 clearcpuid=515,321,323 noxsaves")
ENDED = re.compile(rb"guest: the program ended with status (\d+)")
DEAD = re.compile(rb"Kernel panic")


def shared_libraries(program):
    listing = subprocess.run(["ldd", program], capture_output=True, text=True).stdout  # status 1: a static program
    return {pathlib.Path(path) for path in re.findall(r"(/\S+) \(0x", listing)}


def copy(source, root, target):
    to = root / str(target).lstrip("/")
    to.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(source.resolve(), to)


def make_root(root, program, arguments, folders):
    shutil.rmtree(root, ignore_errors=True)
    copy(HERE / "init.sh", root, "init")
    (root / "init").chmod(0o755)
    copy(BUSYBOX, root, BUSYBOX)
    copy(program, root, "program")
    subprocess.run(["strip", root / "program"], check=True)
    for library in shared_libraries(program):
        copy(library, root, library)
    for folder in folders:  # at its own path, so that a program finds it where the build put it
        shutil.copytree(folder, root / str(folder.resolve()).lstrip("/"))
    (root / "program.sh").write_text(shlex.join(["/program", *arguments]) + "\n")


def make_image(work, kernel):
    disk = work / "disk"
    shutil.rmtree(disk, ignore_errors=True)
    disk.mkdir()
    for file in (*BOOT_FILES, kernel):
        shutil.copy(file, disk / ("linux" if file == kernel else file.name))
    with open(disk / "initrd", "wb") as archive:
        names = subprocess.run(["find", "."], cwd=work / "root", check=True, capture_output=True).stdout
        subprocess.run(["cpio", "-o", "-H", "newc", "--quiet"], cwd=work / "root", input=names, stdout=archive, check=True)
    (disk / "isolinux.cfg").write_text(f"DEFAULT guest\nLABEL guest\n  KERNEL linux\n  APPEND initrd=initrd {KERNEL_OPTIONS}\n")
    subprocess.run(["xorriso", "-report_about", "WARNING", "-as", "mkisofs", "-quiet", "-o", work / "boot.iso", "-b", "isolinux.bin",
                    "-c", "boot.cat", "-no-emul-boot", "-boot-load-size", "4", "-boot-info-table", disk], check=True)


def write_settings(work, options, serial):
    # Few instructions a second of the guest's time: it waits less for the serial line and its timers.
    (work / "bochsrc").write_text(f"""config_interface: textconfig
display_library: {options.display}
cpu: model={options.cpu}, ips=20000000
megs: {options.memory_mb}
romimage: file={BOCHS_FILES}/BIOS-bochs-latest
vgaromimage: file={BOCHS_FILES}/VGABIOS-lgpl-latest
ata0-master: type=cdrom, path={work}/boot.iso, status=inserted
boot: cdrom
com1: enabled=1, mode=term, dev={serial}
log: {work}/bochs.log
panic: action=fatal
error: action=report
info: action=ignore
""")
    (work / "start").write_text("c\n")


def command(work, bochs):
    call = [bochs, "-q", "-f", work / "bochsrc"]
    told = subprocess.run([bochs, "--help"], capture_output=True, text=True)
    # A Bochs with a debugger, as Debian's is, waits for a command.
    return [*call, "-rc", work / "start"] if "-rc" in told.stdout + told.stderr else call


def run(work, options):
    """Passes the guest's serial line on; the program's status, or None where the guest did not get that far."""
    line, terminal = pty.openpty()
    write_settings(work, options, os.ttyname(terminal))
    with open(work / "screen", "wb") as screen:
        bochs = subprocess.Popen(command(work, options.bochs), stdin=subprocess.DEVNULL, stdout=screen, stderr=screen,
                                 env={**os.environ, "TERM": "vt100"}, start_new_session=True)
    tail, until = b"", time.monotonic() + options.seconds
    try:
        while time.monotonic() < until and bochs.poll() is None:
            if not select.select([line], [], [], 1.0)[0]:
                continue
            data = os.read(line, 4096)
            sys.stdout.buffer.write(data.replace(b"\r", b""))
            sys.stdout.flush()
            tail = (tail + data)[-8192:]
            ended = ENDED.search(tail)
            if ended:
                return int(ended[1])
            if DEAD.search(tail):
                return None
        return None
    finally:
        if bochs.poll() is None:
            os.killpg(bochs.pid, 9)
        bochs.wait()


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kernel", type=pathlib.Path, required=True, help="a Linux kernel, as Debian's linux-image packages hold it")
    parser.add_argument("--work", type=pathlib.Path, required=True, help="a folder for the guest's files; made anew")
    parser.add_argument("--cpu", default="corei7_skylake_x", help="a model that `bochs --help cpu` lists")
    parser.add_argument("--bochs", default="bochs", help="another Bochs than the one on the path")
    parser.add_argument("--display", default="term", help="a display library that this Bochs has: term or nogui")
    parser.add_argument("--memory-mb", type=int, default=768)
    parser.add_argument("--seconds", type=float, default=3600, help="gives up after so long")
    parser.add_argument("--folder", type=pathlib.Path, action="append", default=[], help="goes into the guest, at the same path")
    parser.add_argument("program", type=pathlib.Path)
    parser.add_argument("arguments", nargs=argparse.REMAINDER)
    options = parser.parse_args()
    work = options.work.resolve()
    work.mkdir(parents=True, exist_ok=True)
    make_root(work / "root", options.program, options.arguments, options.folder)
    make_image(work, options.kernel)
    status = run(work, options)
    if status is None:
        print(f"emulate: the guest ended before its program did; see {work}/bochs.log and {work}/screen", file=sys.stderr)
        return 3
    return status


if __name__ == "__main__":
    sys.exit(main())
