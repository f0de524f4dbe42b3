"""Commands that read a model run in a cell: its doors, its descriptors, signals, crashes, levels of the jail, files that are written."""
import ctypes, json, os, pathlib, pty, re, select, signal, subprocess, time, unittest

from gguf_edit import add_strings, split
from support import AS_USER, ROOT, SPARK, SYNTHETIC, WITHOUT_NAMESPACES, WITHOUT_NETWORKS, Folder, can, is_one_error_line, spark, spark_json, wait_until

MODEL = ROOT / 'tools/demo-model/demo-model.gguf'
WITHOUT_PROC = ['unshare', '--mount', 'sh', '-c', 'umount -l /proc && exec "$@"', 'sh']


NAMESPACES = can('unshare', '--user')
needs_namespaces = unittest.skipUnless(NAMESPACES, 'no user namespaces here')


def children(pid):
    return [int(x) for x in pathlib.Path(f'/proc/{pid}/task/{pid}/children').read_text().split()]


def status(pid):
    return dict(line.split(':\t', 1) for line in pathlib.Path(f'/proc/{pid}/status').read_text().splitlines() if ':\t' in line)


class Waiting(Folder):
    """Commands that wait for their standard input, so that they can be looked at."""

    def begin(self, *args, wrapper=(), **kw):
        p = subprocess.Popen([*wrapper, SPARK, *map(str, args)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                             preexec_fn=lambda: [signal.signal(s, signal.SIG_DFL) for s in (signal.SIGINT, signal.SIGHUP)], **kw)  # a job in the background ignores the first, nohup the second
        self.addCleanup(lambda: (p.kill(), p.wait(), p.stdin.close(), p.stdout.close(), p.stderr.close()))
        return p

    def cell_of(self, p):
        """The cell, once its door is closed and it waits for its input."""
        def ready():
            pid = children(p.pid)[0]
            return pid if status(pid)['Seccomp'].strip() == '2' and pathlib.Path(f'/proc/{pid}/wchan').exists() and status(pid)['State'].startswith('S') else None
        return wait_until(ready)

    def end(self, p, data=b''):
        out, err = p.communicate(data, timeout=60)
        return p.returncode, out, err.decode()


COMMANDS = [['run', '-n', 1], ['run', MODEL, '-', '-n', 1], ['chat', '-n', 1], ['tokenize', MODEL], ['score', MODEL, '-']]


class Doors(Waiting):
    @needs_namespaces
    def test_every_command_that_reads_a_model_runs_behind_closed_doors(self):
        for command in COMMANDS:
            with self.subTest(command=command):
                p = self.begin(*command)
                cell = self.cell_of(p)
                s = status(cell)
                self.assertEqual((s['Seccomp'].strip(), s['NoNewPrivs'].strip(), int(s['CapPrm'], 16), int(s['CapBnd'], 16)), ('2', '1', 0, 0))
                self.assertEqual(s['NSpid'].split()[-1], '1')
                for ns in 'user', 'net', 'mnt', 'ipc', 'uts', 'pid':
                    self.assertNotEqual(os.readlink(f'/proc/{cell}/ns/{ns}'), os.readlink(f'/proc/{p.pid}/ns/{ns}'), ns)
                if os.geteuid() == 0:
                    self.assertNotEqual(s['Uid'].split()[0], '0')
                code, _, err = self.end(p, b'Once upon a time there was')
                self.assertEqual(code, 0, err)

    @needs_namespaces
    def test_commands_that_read_no_input_run_there_as_well(self):
        big = self.dir / 'model.gguf'
        subprocess.run([SYNTHETIC, 'tiny-llama', 'f32', big], check=True)
        for command in ['bench', big, '--pp', 0, '--tg', 500, '--reps', 5], ['quantize', big, self.dir / 'out.gguf', '--type', 'Q4_K', '--threads', 1]:
            p = self.begin(*command)
            wait_until(lambda: status(children(p.pid)[0])['Seccomp'].strip() == '2')
            p.kill()
            p.wait()
        # inspect ends too soon to be looked at: what it would be without the jail must be the same
        self.assertEqual(spark('inspect', '--json'), spark('inspect', '--json', '--jail', 'off'))

    def test_a_cell_has_the_files_that_were_named_and_no_other(self):
        p = self.begin('score', MODEL, '-', '--logits', self.dir / 'x.npy', '--jail', 'standard')
        cell = self.cell_of(p)
        try:
            names = {os.readlink(f'/proc/{cell}/fd/{fd}') for fd in os.listdir(f'/proc/{cell}/fd')}
        except PermissionError:
            self.skipTest('not root: its descriptors cannot be seen')
        files = {n for n in names if n.startswith('/')}
        self.assertEqual(files, {str(MODEL.resolve()), str((self.dir / 'x.npy').resolve())})
        self.assertEqual(self.end(p, b'Once upon')[0], 0)

    def test_a_cell_ends_with_its_warden(self):
        p = self.begin('tokenize', MODEL)
        cell = self.cell_of(p)
        p.kill()
        p.wait()
        wait_until(lambda: not os.path.exists(f'/proc/{cell}'))

    def test_jail_off_runs_in_the_process_itself(self):
        p = self.begin('tokenize', MODEL, '--jail', 'off')
        wait_until(lambda: status(p.pid)['State'].startswith('S'))
        self.assertEqual((children(p.pid), status(p.pid)['Seccomp'].strip()), ([], status(os.getpid())['Seccomp'].strip()))
        self.assertEqual(self.end(p, b'hello')[0], 0)


class Chat(Waiting):
    def talk(self, *options):
        """One command and the end, at a terminal; the screen and the exit code."""
        pid, fd = pty.fork()
        if pid == 0:
            os.environ['TERM'] = 'xterm'
            os.execv(SPARK, [SPARK, 'chat', *options])
        screen = b''
        try:
            for wait, keys in (rb'> $', b'/help\r'), (rb'/retry[^>]*> $', b'\x04'):
                while not re.search(wait, screen):
                    self.assertTrue(select.select([fd], [], [], 20)[0], screen)
                    screen += os.read(fd, 65536)
                time.sleep(0.4)  # the editor takes over the terminal just after its prompt
                os.write(fd, keys)
            while True:
                screen += os.read(fd, 65536)
        except OSError:
            pass
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        os.close(fd)
        return code, screen

    def test_lines_are_edited_the_same_with_and_without_a_cell(self):
        standard, off = self.talk('--jail', 'standard'), self.talk('--jail', 'off')
        self.assertEqual(standard[0], 0)
        self.assertEqual(standard, off)


class SameBytes(Folder):
    def test_answers_and_refusals_are_those_without_a_jail(self):
        (self.dir / 'text').write_text('Once upon a time there was a dog. ' * 20)
        (self.dir / 'bad.gguf').write_bytes(MODEL.read_bytes()[:3000])
        commands = [['run', 'Once', '-n', 9, '--temp', 0], ['run', MODEL, 'Once', '--raw', '-n', 9, '--seed', 4], ['run', 'model.gguf', '-n', 2, '--temp', 0], ['inspect', '--tensors'], ['inspect', MODEL, '--json'],
                    ['tokenize', MODEL, 'hello world'], ['tokenize', MODEL, '--file', self.dir / 'text'], ['score', MODEL, self.dir / 'text', '--json'],
                    ['inspect', self.dir / 'bad.gguf'], ['run', self.dir / 'bad.gguf', 'x'], ['run', self.dir / 'none.gguf', 'x'], ['run', 'nothing', 'x'], ['inspect', self.dir],
                    ['tokenize', MODEL, '--file', self.dir / 'none'], ['tokenize', self.dir / 'none', '--file', self.dir / 'none'], ['score', MODEL, self.dir], ['score', MODEL, '--tokens', '1,2', '--ctx', 1],
                    ['score', MODEL, '--tokens', '1,2', '--logits', self.dir / 'none/x.npy'], ['run', 'x', '--ctx', 99999], ['run', 'x', '--stop', ''], ['run', 'a', 'b', 'c'],
                    ['quantize', MODEL, self.dir / 'o', '--type', 'Q8_0'], ['quantize', self.dir / 'none', self.dir / 'o', '--type', 'Q8_0'], ['chat', self.dir / 'none'], ['bench', self.dir / 'none']]
        for command in commands:
            self.assertEqual(spark(*command), spark(*command, '--jail', 'off'), command)

    def test_all_files_of_a_split_model_are_found_whichever_is_named(self):
        model = self.dir / 'nano.gguf'
        subprocess.run([SYNTHETIC, 'nano', 'f32', model], check=True)
        for i, part in enumerate(split(model.read_bytes(), 3)):
            (self.dir / f'part-{i + 1:05}-of-00003.gguf').write_bytes(part)
        want = spark('run', model, 'a', '--raw', '-n', 8, '--temp', 0)
        self.assertEqual(want[0], 0)
        for i in 1, 2, 3:
            self.assertEqual(spark('run', self.dir / f'part-0000{i}-of-00003.gguf', 'a', '--raw', '-n', 8, '--temp', 0), want)

    def test_the_environment_that_counts_goes_along(self):
        code, out, err = spark('run', 'Hi', env={'SPARK_CPU': 'z80'})
        self.assertEqual((code, out), (1, b''))
        self.assertIn('z80', err)
        model = self.dir / 'clock.gguf'
        model.write_bytes(add_strings(MODEL.read_bytes(), tokenizer__chat_template="{{ strftime_now('%H') }}"))
        hour = lambda zone, *options: spark_json('run', model, 'x', '--json', '-n', 1, *options, env={'TZ': zone})['prompt_ids']
        zones = 'UTC', 'AAA-5', 'Asia/Tokyo'
        for _ in range(3):  # an hour may end in between
            inside, outside = ([hour(z, *options) for z in zones] for options in ([], ['--jail', 'off']))
            if inside == outside:
                break
        self.assertEqual(inside, outside)
        self.assertNotEqual(inside[0], inside[1])

    def test_a_long_prompt_goes_along_whole(self):
        text = 'word ' * 20000
        self.assertEqual(spark('tokenize', MODEL, text), spark('tokenize', MODEL, stdin=text.encode()))


class Written(Folder):
    def score(self, out, *options, model=MODEL):
        return spark('score', model, '--tokens', '1,2,3', '--logits', out, *options)

    def test_logits_replace_a_longer_file_in_its_place(self):
        out = self.dir / 'x.npy'
        out.write_bytes(b'x' * 100000)
        inode = out.stat().st_ino
        self.assertEqual(self.score(out)[0], 0)
        want = out.read_bytes()
        self.assertEqual(out.stat().st_ino, inode)
        self.assertEqual(want[:6], b'\x93NUMPY')
        self.assertEqual(self.score(self.dir / 'y.npy', '--jail', 'off')[0], 0)
        self.assertEqual((self.dir / 'y.npy').read_bytes(), want)

    def test_a_failure_before_the_first_byte_leaves_what_was_there_and_nothing_new(self):
        kept = self.dir / 'kept.npy'
        kept.write_bytes(b'mine')
        for jail in 'strict' if NAMESPACES else 'standard', 'off':
            for out in kept, self.dir / 'new.npy':
                self.assertEqual(self.score(out, '--jail', jail, model=ROOT / 'README.md')[0], 1)
        self.assertEqual(kept.read_bytes(), b'mine')
        self.assertEqual(os.listdir(self.dir), ['kept.npy'])

    def test_a_cell_that_dies_leaves_no_half_file(self):
        out = self.dir / 'x.npy'
        p = subprocess.Popen([SPARK, 'score', MODEL, '--tokens', ','.join(['5'] * 500), '--logits', out, '--threads', '1', '--cpu', 'scalar'], stderr=subprocess.PIPE)
        wait_until(lambda: out.stat().st_size > 0)
        os.kill(children(p.pid)[0], signal.SIGKILL)
        err = p.communicate(timeout=60)[1].decode()
        self.assertEqual(p.returncode, 1)
        self.assertTrue(is_one_error_line(err), err)
        self.assertFalse(out.exists())


class Crashes(Waiting):
    def test_a_cell_that_crashes_is_one_clear_line_and_exit_1(self):
        p = self.begin('tokenize', MODEL, '--jail', 'standard')
        os.kill(self.cell_of(p), signal.SIGSEGV)
        code, out, err = self.end(p)
        self.assertEqual((code, out), (1, b''))
        self.assertTrue(is_one_error_line(err) and 'SIGSEGV' in err, err)

    def test_a_cell_that_is_killed_is_one_clear_line_and_exit_1(self):
        p = self.begin('run', '-n', 1)
        os.kill(self.cell_of(p), signal.SIGKILL)
        code, out, err = self.end(p)
        self.assertEqual((code, out), (1, b''))
        self.assertTrue(is_one_error_line(err) and 'SIGKILL' in err, err)

    @unittest.skipIf('asan' in SPARK, 'there a handler names the call and ends the cell')
    def test_a_forbidden_call_is_named(self):
        p = self.begin('run', '-n', 1, '--jail', 'standard')
        os.kill(self.cell_of(p), signal.SIGSYS)
        code, _, err = self.end(p)
        self.assertEqual(code, 1)
        self.assertTrue(is_one_error_line(err) and 'system call' in err, err)


class Hostile(Waiting):
    """A cell that was taken over has its link, and may say what it likes."""

    def say(self, cell, data):
        libc = ctypes.CDLL(None, use_errno=True)
        fd = libc.syscall(438, os.pidfd_open(cell), 3, 0)  # pidfd_getfd: as if the cell itself wrote
        if fd < 0:
            self.skipTest(f'no descriptor of the cell: {os.strerror(ctypes.get_errno())}')
        os.write(fd, data)
        os.close(fd)

    def test_what_breaks_the_rules_of_the_link_ends_the_cell(self):
        for data in b'r', b'x', b'>', b'.', b'\0', b'\xff' * 1000:
            p = self.begin('chat', '-n', 1)
            self.say(self.cell_of(p), data)
            code, out, err = self.end(p)
            self.assertEqual((code, out), (1, b''), data)
            self.assertTrue('broke the rules' in err.splitlines()[-1], err)


class Signals(Waiting):
    def test_a_signal_that_nobody_handles_ends_the_command_by_that_signal(self):
        for number in signal.SIGINT, signal.SIGTERM, signal.SIGHUP:
            p = self.begin('tokenize', MODEL)
            cell = self.cell_of(p)
            p.send_signal(number)
            p.wait(20)  # while its input is still open: an end of input could reach the cell before the signal that is passed on
            self.assertEqual(self.end(p), (-number, b'', ''))
            self.assertFalse(os.path.exists(f'/proc/{cell}'))

    def test_signals_to_the_whole_group_count_once(self):
        p = self.begin('run', 'Once', '-n', 100000, '--ctx', 512, '--json', '--logit-bias', '2=-inf', '--cpu', 'scalar', '--threads', 1, start_new_session=True)
        wait_until(lambda: len(children(p.pid)) and float(pathlib.Path(f'/proc/{children(p.pid)[0]}/stat').read_text().split()[13]) > 15)
        os.killpg(p.pid, signal.SIGINT)
        code, out, err = self.end(p)
        self.assertEqual(code, 0, err)
        self.assertEqual(json.loads(out)['finish_reason'], 'cancelled')

    def test_what_was_ignored_stays_ignored(self):
        p = subprocess.Popen(['sh', '-c', 'trap "" INT HUP; exec "$@"', 'sh', SPARK, 'tokenize', MODEL], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self.cell_of(p)
        p.send_signal(signal.SIGINT)
        p.send_signal(signal.SIGHUP)
        time.sleep(0.1)
        out = p.communicate(b'hello', timeout=20)[0]
        self.assertEqual((p.returncode, out), (0, spark('tokenize', MODEL, 'hello')[1]))

    def test_a_stopped_job_stops_its_cell_and_goes_on(self):
        pid, fd = pty.fork()
        if pid == 0:
            # A shell of our own: a group of its own in the foreground, as job control makes it.
            child = os.fork()
            if child == 0:
                os.setpgid(0, 0)
                signal.signal(signal.SIGTTOU, signal.SIG_IGN)
                os.tcsetpgrp(0, os.getpid())
                signal.signal(signal.SIGTTOU, signal.SIG_DFL)
                os.execv(SPARK, [SPARK, 'run', 'Once', '--ctx', '512', '--cpu', 'scalar', '--threads', '1', '--logit-bias', '2=-inf'])
            _, how = os.waitpid(child, os.WUNTRACED)
            cell = children(child)[0]
            end = time.time() + 10
            while status(cell)['State'][0] != 'T' and time.time() < end:
                time.sleep(0.01)  # a signal takes its time
            states = [status(x)['State'][0] for x in (child, cell)]
            os.kill(child, signal.SIGCONT)
            time.sleep(0.2)
            states += [status(cell)['State'][0]]
            os.kill(child, signal.SIGTERM)
            _, end = os.waitpid(child, 0)
            os.write(1, f'<{os.WIFSTOPPED(how)} {states} {os.WTERMSIG(end)}>'.encode())
            os._exit(0)
        screen = b''
        pressed = False
        try:
            while not re.search(rb'<.*>', screen):
                self.assertTrue(select.select([fd], [], [], 30)[0], screen)
                screen += os.read(fd, 65536)
                if not pressed and re.search(rb'[a-z]{2}', screen):
                    os.write(fd, b'\x1a')
                    pressed = True
        except OSError:
            pass
        finally:
            os.waitpid(pid, 0)
            os.close(fd)
        told = re.search(rb"<(\w+) \['(.)', '(.)', '(.)'\] (\d+)>", screen)
        self.assertTrue(told, screen)
        self.assertEqual((told[1], told[2], told[3], told[5]), (b'True', b'T', b'T', b'15'), screen)
        self.assertNotEqual(told[4], b'T')


class Levels(Folder):
    def answer(self, wrapper, *args):
        p = subprocess.run([*wrapper, self.binary(), *map(str, args)], stdin=subprocess.DEVNULL, capture_output=True, timeout=60, cwd='/')
        return p.returncode, p.stdout, p.stderr.decode()

    def check_standard(self, wrapper):
        want = spark('run', 'Once', '-n', 5, '--temp', 0)[1]
        code, out, err = self.answer(wrapper, 'run', 'Once', '-n', 5, '--temp', 0)
        self.assertEqual((code, out), (0, want), err)
        self.assertTrue(is_one_error_line(err) and 'not strict' in err and 'standard' in err, err)
        why = err
        self.assertEqual(self.answer(wrapper, 'run', 'Once', '-n', 5, '--temp', 0, '--jail', 'standard'), (0, want, ''))
        self.assertEqual(self.answer(wrapper, 'run', 'Once', '-n', 5, '--temp', 0, '--jail', 'off'), (0, want, ''))
        code, out, err = self.answer(wrapper, 'run', 'Once', '-n', 5, '--temp', 0, '--jail', 'strict')
        self.assertEqual((code, out), (3, b''))
        self.assertTrue(is_one_error_line(err) and 'strict' in err, err)
        return why

    def test_without_user_namespaces_it_says_so_and_strict_is_refused(self):
        self.check_standard(WITHOUT_NAMESPACES if NAMESPACES else [])

    @needs_namespaces
    def test_what_the_cell_itself_cannot_have_is_told_as_well(self):
        self.assertIn('network namespace', self.check_standard(WITHOUT_NETWORKS))

    @unittest.skipUnless(os.geteuid() == 0 and can(*WITHOUT_PROC) and 'asan' not in SPARK, 'cannot take /proc away')
    def test_where_no_level_is_granted_it_says_so_and_any_level_is_refused(self):
        code, out, err = self.answer(WITHOUT_PROC, 'tokenize', MODEL, 'hello')
        self.assertEqual((code, out), (0, spark('tokenize', MODEL, 'hello')[1]), err)
        self.assertTrue(is_one_error_line(err) and 'no level of the jail' in err, err)
        self.assertEqual(self.answer(WITHOUT_PROC, 'tokenize', MODEL, 'hello', '--jail', 'off'), (code, out, ''))
        for level in 'standard', 'strict':
            code, out, err = self.answer(WITHOUT_PROC, 'tokenize', MODEL, 'hello', '--jail', level)
            self.assertEqual((code, out), (3, b''))
            self.assertTrue(is_one_error_line(err), err)

    @unittest.skipUnless(os.geteuid() == 0 and can(*AS_USER, 'unshare', '--user'), 'cannot become another user')
    def test_it_works_for_a_normal_user_with_and_without_namespaces(self):
        self.check_standard([*AS_USER, *WITHOUT_NAMESPACES])
        want = spark('run', 'Once', '-n', 5, '--temp', 0)[1]
        self.assertEqual(self.answer(AS_USER, 'run', 'Once', '-n', 5, '--temp', 0, '--jail', 'strict'), (0, want, ''))
        self.assertEqual(self.answer(AS_USER, 'run', 'Once', '-n', 5, '--temp', 0, '--threads', 2), (0, want, ''))

    def test_a_level_that_is_none_is_a_usage_mistake(self):
        code, out, err = spark('tokenize', MODEL, 'x', '--jail', 'loose')
        self.assertEqual((code, out), (2, b''))
        self.assertTrue(is_one_error_line(err) and 'strict|standard|off' in err, err)

    def test_every_command_that_reads_a_model_takes_a_level(self):
        for command in 'run', 'chat', 'inspect', 'tokenize', 'score', 'bench', 'quantize':
            self.assertIn(b'--jail LEVEL', spark(command, '--help')[1], command)


if __name__ == '__main__':
    unittest.main()
