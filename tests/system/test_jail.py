"""`spark jail` on this machine: as root, as a normal user, where namespaces are refused, in a container without privileges."""
import json, os, pathlib, subprocess, sys, unittest

import serving
from support import AS_USER, ROOT, SPARK, WITHOUT_NAMESPACES, Folder, can, is_one_error_line, spark

# What a cell that serves must be killed for, whatever the table says (by hand: a wrong table must not hide here).
ALWAYS_FATAL = [
    'open a file for reading', 'create a file', 'read its own /proc', 'read the /proc of another', 'list a directory', 'delete a file', 'rename a file',
    'change a mode', 'copy between descriptors', 'make a file in memory', 'run a program', 'run a program by a descriptor', 'fork by clone', 'fork by clone3',
    'make a process that shares memory', 'make a thread in new namespaces', 'trace another process', "read another's memory", "write another's memory",
    'signal the warden', 'get hold of a process', "take another's descriptor", 'make an internet socket', 'make a unix socket', 'make a netlink socket',
    'connect', 'bind an address', 'listen', 'receive a descriptor from a client', 'make memory executable', 'map executable memory', 'map a file',
    'map shared memory', 'seal memory', 'handle page faults', 'mount', 'unmount', 'make a namespace', 'enter a namespace', 'load a BPF program',
    'make a ring of calls', 'count events', 'use keys', 'become root', 'become dumpable', 'ask a terminal for input', 'set a limit', 'an x32 call',
    'a call that does not exist']


class Proof(Folder):
    def run_jail(self, wrapper, *options):
        """Through a pipe for stderr, as under a supervisor."""
        p = subprocess.run([*wrapper, self.binary(), 'jail', *options], stdin=subprocess.DEVNULL, capture_output=True, timeout=120, cwd='/')
        return p.returncode, p.stdout, p.stderr.decode()

    def prove(self, wrapper, *options):
        return self.judge(*self.run_jail(wrapper, '--json', *options))

    def judge(self, code, out, err):
        """What the command printed shows a jail that holds; the object (tools/jail-arm asks this, too)."""
        self.assertEqual(code, 0, err)
        result = json.loads(out)
        self.assertEqual(result['wrong'], 0, [t for t in result['trials'] if not t['right']])
        self.assertEqual(result['held'] + result['controls'], len(result['trials']))
        for role in 'engine', 'front':
            with self.subTest(role):
                self.check_role(result, role)
        self.check_tool(result)
        return result

    def check_role(self, result, role):
        serving = {t['act']: t for t in result['trials'] if t['role'] == role and t['phase'] == 'serving'}
        opening = {t['act']: t for t in result['trials'] if t['role'] == role and t['phase'] == 'opening'}
        for act in ALWAYS_FATAL:
            self.assertEqual((serving[act]['verdict'], serving[act]['by']), ('killed', 'SIGSYS'), act)
            self.assertNotEqual(opening[act]['verdict'], 'allowed', act)
        needed = [t for t in serving.values() if t['control']]
        self.assertGreaterEqual(len(needed), 4)  # a cell that can do nothing would pass all the rest
        self.assertTrue(all(t['verdict'] == 'allowed' for t in needed))

    def check_tool(self, result):
        """A command in a cell: one phase, in which only memory, threads and the descriptors at hand are left."""
        phases = {t['phase'] for t in result['trials'] if t['role'] == 'tool'}
        self.assertEqual(phases, {'entered', 'opening'})
        tool = {t['act']: t for t in result['trials'] if t['role'] == 'tool' and t['phase'] == 'opening'}
        for act in ALWAYS_FATAL:
            if act == 'fork by clone3':
                self.assertEqual(tool[act]['by'], 'ENOSYS')  # threads are made by clone, whose flags can be seen
            else:
                self.assertEqual((tool[act]['verdict'], tool[act]['by']), ('killed', 'SIGSYS'), act)
        needed = [t for t in tool.values() if t['control']]
        self.assertGreaterEqual(len(needed), 4)
        self.assertTrue(all(t['verdict'] == 'allowed' for t in needed))

    def check_level(self, result, strict):
        means = {m['name']: m for m in result['means']}
        self.assertEqual(result['reachable'], 'strict' if strict else 'standard')
        self.assertEqual(result['level'], result['reachable'])
        for name in 'seccomp', 'landlock', 'no capabilities', 'no new privileges', 'not dumpable', 'rlimits':
            self.assertTrue(means[name]['holds'], means[name])
        # Without the filter, the doors behind it hold as well.
        entered = {t['act']: t for t in result['trials'] if t['phase'] == 'entered'}
        self.assertEqual(entered['open a file for reading']['verdict'], 'nothing there' if strict else 'failed')
        self.assertGreater(len(entered), 30 if strict else 25)


class Jail(Proof):
    @unittest.skipUnless(can('unshare', '--user'), 'no user namespaces here')
    def test_every_forbidden_act_is_held_at_strict(self):
        result = self.prove([], '--level', 'strict')
        self.check_level(result, True)
        own_user = next(m for m in result['means'] if m['name'] == 'own user')
        self.assertEqual(own_user['holds'], os.geteuid() == 0)

    @unittest.skipUnless(can(*AS_USER, 'unshare', '--user') or os.geteuid() != 0, 'cannot become another user')
    def test_every_forbidden_act_is_held_at_strict_for_a_normal_user(self):
        self.check_level(self.prove(AS_USER if os.geteuid() == 0 else []), True)

    def test_without_user_namespaces_the_level_is_standard_and_holds(self):
        wrapper = WITHOUT_NAMESPACES if can('unshare', '--user') else []
        self.check_level(self.prove(wrapper), False)
        code, out, err = self.run_jail(wrapper, '--level', 'strict', '--json')
        self.assertEqual((code, out), (3, b''))
        self.assertTrue(is_one_error_line(err), err)
        self.assertIn('namespace', err)
        self.assertIn("'--level standard' can be had", err)

    def test_a_normal_user_without_user_namespaces_has_standard(self):
        if os.geteuid() == 0 and can(*AS_USER, 'unshare', '--user'):
            self.check_level(self.prove([*AS_USER, *WITHOUT_NAMESPACES]), False)

    def test_an_engine_that_allocates_after_ready_ends_with_a_line(self):
        result = self.prove([], '--level', 'standard')
        guard = {t['act']: t for t in result['trials'] if t['role'] == 'engine' and t['phase'] == 'serving' and t['act'] in ('malloc', 'realloc', 'strdup', 'free what was there before')}
        self.assertEqual({a: t['verdict'] for a, t in guard.items()}, {'malloc': 'killed', 'realloc': 'killed', 'strdup': 'killed', 'free what was there before': 'allowed'})
        self.assertNotEqual(guard['malloc']['by'], 'SIGSYS')  # our own trap, with its line: not the filter's doing
        self.assertFalse(any(t['act'] == 'malloc' and t['role'] == 'front' for t in result['trials']))

    def test_the_text_says_what_the_json_says(self):
        code, out, err = self.run_jail([], '--level', 'standard')
        self.assertEqual((code, err), (0, ''))
        text = out.decode()
        self.assertNotIn('WRONG', text)
        self.assertRegex(text, r'(?m)^  killed +SIGSYS +open a file for reading$')
        self.assertRegex(text, r'(?m)^\d+ trials at level standard: \d+ forbidden acts held, \d+ needed acts tried, 0 wrong$')

    def test_the_page_shows_the_table_in_the_program(self):
        code, out, err = spark('jail', '--table')
        self.assertEqual(code, 0, err)
        page = (ROOT / 'ARCHITECTURE.md').read_text()
        shown = page.split('<!-- spark jail --table -->\n')[1].split('<!-- end -->')[0]
        self.assertEqual(shown, out.decode())

    def test_a_cell_cannot_be_forged_from_the_command_line(self):
        p = subprocess.run(['spark-cell', 'x', 'role=0 level=2'], executable=SPARK, capture_output=True)
        self.assertEqual(p.returncode, 2)
        self.assertTrue(is_one_error_line(p.stderr.decode()), p.stderr)


CONTAINER = [sys.executable, str(pathlib.Path(__file__).resolve().parent / 'container.py')]
FIRST_PROCESS = ['unshare', '--pid', '--fork', '--mount-proc']  # as in a container: before the filter, which refuses it


@unittest.skipUnless(can(*FIRST_PROCESS, *CONTAINER), 'only root can filter as a container runtime does')
class Container(Proof):
    """What docs/OPERATING.md says of containers that ask for nothing: standard, and strict is refused by name."""

    def serve(self, *options, wrapper):
        return serving.Server('--model', 'demo=', *options, wrapper=[*CONTAINER, *wrapper])

    def refused(self, *options, wrapper):
        """What `serve` says before it ends with 3."""
        p = subprocess.run([*CONTAINER, *wrapper, self.binary(), 'serve', '--model', 'demo=', '--listen', 'tcp:127.0.0.1:0', '--no-auth', *options],
                           stdin=subprocess.DEVNULL, capture_output=True, timeout=60)
        err = p.stderr.decode()
        self.assertEqual((p.returncode, p.stdout), (3, b''), err)
        self.assertTrue(is_one_error_line(err), err)
        return err

    def check_container(self, *wrapper):
        self.check_level(self.prove([*FIRST_PROCESS, *CONTAINER, *wrapper]), False)
        code, out, err = self.run_jail([*CONTAINER, *wrapper], '--level', 'strict', '--json')
        self.assertEqual((code, out), (3, b''))
        self.assertIn("user and pid namespace: clone: Operation not permitted; '--level standard' can be had", err)
        self.assertIn('level strict cannot be had here: user and pid namespace (clone: Operation not permitted); --jail standard can', self.refused(wrapper=wrapper))
        with serving.Server('--model', 'demo=') as outside, self.serve('--jail', 'standard', wrapper=wrapper) as inside:
            self.assertEqual(inside.complete(), outside.complete())
            self.assertEqual(inside.close(), 0)

    def test_a_container_of_root_has_standard_and_refuses_to_serve_without_being_asked(self):
        self.check_container()

    def test_a_container_of_a_user_has_standard_and_refuses_to_serve_without_being_asked(self):
        self.check_container('--user')

    def test_where_landlock_is_filtered_no_level_is_granted_and_only_off_serves(self):
        for user in [], ['--user']:
            wrapper = ['--no-landlock', *user]
            code, out, err = self.run_jail([*CONTAINER, *wrapper], '--json')
            self.assertEqual((code, out), (3, b''))
            self.assertIn('landlock: landlock_create_ruleset: Operation not permitted; no level can be had', err)
            for options in [], ['--jail', 'standard']:
                self.assertIn('landlock (landlock_create_ruleset: Operation not permitted); --jail off can', self.refused(*options, wrapper=wrapper))
            with self.serve('--jail', 'off', wrapper=wrapper) as inside:
                self.assertGreater(len(inside.complete()), 20)


if __name__ == '__main__':
    unittest.main()
