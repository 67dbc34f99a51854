"""What happens between fork and exec of every child server: a script of its own, standard library only.

Run as `python -I -S launch.py PARENT_PID DEATH_SIGNAL IDENTITY TREE COMMAND…`; it becomes the command, so
the child stays a direct child. A script rather than code run after fork in the parent, because the parent
has threads (gRPC, uvloop) whose locks a forked copy would wait for in vain. Failure: one line on stderr,
which is the server's log, and exit status 126.

IDENTITY: `caller` changes nothing. `unprivileged` is for programs that refuse root (Postgres): root enters
a user namespace in which it is user 1000, so files stay root's and directories closed to others work;
where namespaces are forbidden it becomes user `nobody`. `nobody` goes there at once. TREE is the
directory that must belong to the identity; it is handed over whole when it does not.
"""

import ctypes
import os
import pwd
import sys
from pathlib import Path

_CLONE_NEWUSER = 0x10000000
_PR_SET_PDEATHSIG = 1
_INSIDE_ID = 1000
_CANNOT_EXECUTE = 126


def become(identity: str, tree: Path) -> None:
    """Leave root as `identity` says and make `tree` its own; raise OSError when it cannot be reached."""
    if identity == "caller":
        return
    if identity == "unprivileged" and _enter_user_namespace(tree):
        return
    nobody = pwd.getpwnam("nobody")
    _hand_over(tree, nobody.pw_uid, nobody.pw_gid)
    os.setgroups([])
    os.setgid(nobody.pw_gid)
    os.setuid(nobody.pw_uid)
    if not os.access(tree, os.R_OK | os.W_OK | os.X_OK):
        message = f"user nobody cannot reach {tree}: choose a data directory whose parents it may enter"
        raise PermissionError(message)


def die_with(parent_pid: int, death_signal: int) -> None:
    """Have the kernel send `death_signal` to this process when the thread that started it is gone.

    Called last, because changing identity clears the setting. A parent that died before is noticed here.
    """
    if sys.platform == "linux":
        _libc_call("prctl", _PR_SET_PDEATHSIG, death_signal, 0, 0, 0)
    if os.getppid() != parent_pid:
        message = "the process that started this server is gone"
        raise ProcessLookupError(message)


def _enter_user_namespace(tree: Path) -> bool:
    uid, gid = os.getuid(), os.getgid()
    try:
        _hand_over(tree, uid, gid)
        _libc_call("unshare", _CLONE_NEWUSER)
    except OSError:
        return False
    Path("/proc/self/setgroups").write_text("deny")
    Path("/proc/self/uid_map").write_text(f"{_INSIDE_ID} {uid} 1")
    Path("/proc/self/gid_map").write_text(f"{_INSIDE_ID} {gid} 1")
    return True


def _hand_over(tree: Path, uid: int, gid: int) -> None:
    if tree.stat().st_uid == uid:
        return
    for folder, _, files in os.walk(tree):
        for name in files:
            os.chown(Path(folder, name), uid, gid, follow_symlinks=False)
        if folder != str(tree):
            os.chown(folder, uid, gid, follow_symlinks=False)
    os.chown(tree, uid, gid)  # last: an interrupted hand-over is then seen as one still to do


def _libc_call(name: str, *arguments: int) -> None:
    function = getattr(ctypes.CDLL(None, use_errno=True), name, None)
    if function is None:
        message = f"this system has no {name}"
        raise OSError(message)
    if function(*(ctypes.c_ulong(argument) for argument in arguments)) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{name}: {os.strerror(number)}")


def main(arguments: list[str]) -> None:
    """Prepare this process and become the command."""
    parent_pid, death_signal, identity, tree, *command = arguments
    try:
        become(identity, Path(tree))
        die_with(int(parent_pid), int(death_signal))
        os.execv(command[0], command)  # noqa: S606 - no shell is wanted
    except (OSError, KeyError) as error:
        sys.stderr.write(f"cannot start {command[0]}: {error}\n")
        raise SystemExit(_CANNOT_EXECUTE) from None


if __name__ == "__main__":
    main(sys.argv[1:])
