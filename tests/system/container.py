#!/usr/bin/env python3
"""Runs a command as a container runtime does by default: with the capabilities and the filter of system calls that Docker, Podman and
containerd give to a container that asks for nothing (their common default profile, what it refuses of the calls that a root would have).

    container.py [--user] [--no-landlock] COMMAND...    --user: as the image's USER; --no-landlock: a filter from before Landlock

Needs root: who has no CAP_SYS_ADMIN gets his filter at the price of no_new_privs.
"""
import ctypes, os, platform, struct, sys

CAPABILITIES = 'chown,dac_override,fowner,fsetid,kill,setgid,setuid,setpcap,net_bind_service,net_raw,sys_chroot,mknod,audit_write,setfcap'
EPERM, ENOSYS = 1, 38
NONE = -1
REFUSED = {  # call: number on x86-64, on aarch64
    'mount': (165, 40), 'umount2': (166, 39), 'pivot_root': (155, 41), 'unshare': (272, 97), 'setns': (308, 268), 'open_tree': (428, 428), 'move_mount': (429, 429),
    'fsopen': (430, 430), 'fsconfig': (431, 431), 'fsmount': (432, 432), 'fspick': (433, 433), 'mount_setattr': (442, 442), 'quotactl': (179, 60), 'fanotify_init': (300, 262),
    'open_by_handle_at': (304, 265), 'sethostname': (170, 161), 'setdomainname': (171, 162), 'syslog': (103, 116), 'bpf': (321, 280), 'perf_event_open': (298, 241),
    'add_key': (248, 217), 'request_key': (249, 218), 'keyctl': (250, 219), 'userfaultfd': (323, 282), 'io_uring_setup': (425, 425), 'io_uring_enter': (426, 426),
    'io_uring_register': (427, 427), 'init_module': (175, 105), 'finit_module': (313, 273), 'delete_module': (176, 106), 'kexec_load': (246, 104), 'kexec_file_load': (320, 294),
    'reboot': (169, 142), 'swapon': (167, 224), 'swapoff': (168, 225), 'acct': (163, 89), 'settimeofday': (164, 170), 'clock_settime': (227, 112), 'clock_adjtime': (305, 266),
    'iopl': (172, NONE), 'ioperm': (173, NONE), 'kcmp': (312, 272), 'pidfd_getfd': (438, 438), 'process_madvise': (440, 440), 'move_pages': (279, 239), 'mbind': (237, 235),
    'get_mempolicy': (239, 236), 'set_mempolicy': (238, 237), 'vhangup': (153, 58), 'lookup_dcookie': (212, 18)}
CLONE, CLONE3 = (56, 220), (435, 435)
NEW_NAMESPACES = 0x7e020000
LANDLOCK = (444, 445, 446)

LOAD, AND, EQUAL, RETURN = 0x20, 0x54, 0x15, 0x06
ALLOW, ERRNO = 0x7fff0000, 0x00050000


def program(no_landlock):
    """Classic BPF: code, jump if true, jump if false, constant."""
    here = {'x86_64': 0, 'aarch64': 1}[platform.machine()]
    refused = {n[here]: EPERM for n in REFUSED.values() if n[here] != NONE}
    refused[CLONE3[here]] = ENOSYS  # its flags cannot be seen: libc shall take clone
    if no_landlock:
        refused.update((n, EPERM) for n in LANDLOCK)
    code = [(LOAD, 0, 0, 0)]
    for number, errno in sorted(refused.items()):
        code += [(EQUAL, 0, 1, number), (RETURN, 0, 0, ERRNO | errno)]
    code += [(EQUAL, 0, 4, CLONE[here]), (LOAD, 0, 0, 16), (AND, 0, 0, NEW_NAMESPACES), (EQUAL, 1, 0, 0), (RETURN, 0, 0, ERRNO | EPERM), (RETURN, 0, 0, ALLOW)]
    return b''.join(struct.pack('HBBI', *instruction) for instruction in code)


def install(code):
    libc = ctypes.CDLL(None, use_errno=True)
    held = ctypes.create_string_buffer(code)
    fprog = struct.pack('HxxxxxxP', len(code) // 8, ctypes.addressof(held))
    if libc.prctl(22, 2, fprog, 0, 0) != 0:  # PR_SET_SECCOMP, SECCOMP_MODE_FILTER
        sys.exit(f'container.py: {os.strerror(ctypes.get_errno())}')


def main():
    args = sys.argv[1:]
    options = set()
    while args and args[0].startswith('--'):
        options.add(args.pop(0))
    install(program('--no-landlock' in options))
    drop = ['setpriv', '--bounding-set', '-all,' + ','.join('+' + c for c in CAPABILITIES.split(',')), '--inh-caps', '-all']
    if '--user' in options:
        drop += ['--reuid', '65532', '--regid', '65532', '--clear-groups']
    os.execvp('setpriv', [*drop, '--', *args])


if __name__ == '__main__':
    main()
