"""Which bytes are served: those that were last accepted, whatever becomes of the files, until the operator says otherwise."""
import contextlib, os, pathlib, random, re, signal, subprocess, threading, time, unittest

from serving import Server, in_parallel
from support import SYNTHETIC, Folder, wait_until


class ModelFiles(Folder):
    def setUp(self):
        super().setUp()
        self.file = self.dir / 'm.gguf'
        self.old, self.new = (self.model(seed) for seed in (1, 2)) # of the same size

    def model(self, seed):
        path = self.dir / f'made-{seed}.gguf'
        subprocess.run([SYNTHETIC, 'nano', 'q4_0', path, '--seed', str(seed)], check=True)
        data = path.read_bytes()
        path.unlink()
        return data

    def put(self, data, file=None):
        """A new file in the place of the one that is there."""
        fresh = self.dir / 'fresh'
        fresh.write_bytes(data)
        os.rename(fresh, file or self.file)

    def write_into(self, data):
        """The same file, with another content."""
        with self.file.open('r+b') as f:
            f.write(data)
            f.truncate()

    def serve(self, *args):
        self.put(self.old)
        s = Server('--model', f'm={self.file}', *args)
        self.addCleanup(s.__exit__)
        return s

    def text_of(self, data):
        """What a service that never saw another file answers."""
        alone = self.dir / 'alone.gguf'
        self.put(data, alone)
        with Server('--model', f'm={alone}') as s:
            return s.complete()

    def crash(self, s):
        """Ends the engine; the next one serves."""
        pid = s.cells()['engine m'][0]
        os.kill(pid, signal.SIGKILL)
        wait_until(lambda: s.cells()['engine m'] != [pid], why=s.log)
        s.wait_ready()

    def reload(self, s, text):
        s.signal(signal.SIGHUP)
        wait_until(lambda: s.post('/v1/completions', {'model': 'm', 'prompt': 'Once upon a time', 'max_tokens': 24, 'seed': 7})[1]['choices'][0]['text'] == text, why=s.log)

    def held(self, pid, file=None):
        """Descriptors of a file of this folder that a process has, be it gone: (where it leads, whether exec closes it)."""
        found = []
        for fd in pathlib.Path(f'/proc/{pid}/fd').iterdir():
            with contextlib.suppress(OSError):
                to = os.readlink(fd)
                if to.startswith(str(file or self.dir)):
                    flags = re.search(r'(?m)^flags:\s+(\d+)', pathlib.Path(f'/proc/{pid}/fdinfo/{fd.name}').read_text())[1]
                    found.append((to, bool(int(flags, 8) & os.O_CLOEXEC)))
        return found

    def test_a_crash_changes_no_byte_of_what_is_served_whatever_became_of_the_file(self):
        texts = [self.text_of(data) for data in (self.old, self.new)]
        self.assertNotEqual(*texts)
        s, told = self.serve(), 0
        self.assertEqual(s.complete(), texts[0])
        self.crash(s)
        self.assertEqual(s.complete(), texts[0])
        self.assertNotIn('"kept"', s.log()) # the file is as it was
        for spoil in lambda: self.put(self.new), lambda: self.put(self.new[:5000]), self.file.unlink:
            spoil()
            self.crash(s)
            self.assertEqual(s.complete(), texts[0])
            told += 1
            self.assertEqual(s.log().count('"event":"kept","cell":"warden","what":"model","model":"m"'), told, s.log())

    def test_a_reload_that_fails_leaves_what_was_accepted_for_a_crash(self):
        texts = [self.text_of(data) for data in (self.old, self.new)]
        s = self.serve()
        self.file.unlink()
        s.signal(signal.SIGHUP) # a reload of what is not there
        s.wait_log('"model_swap_failed".*cannot open')
        self.crash(s)
        self.assertEqual(s.complete(), texts[0])
        self.put(self.new[:5000]) # and of what cannot be loaded
        s.signal(signal.SIGHUP)
        s.wait_log('"model_failed"')
        self.crash(s)
        self.assertEqual(s.complete(), texts[0])
        self.put(self.new)
        self.reload(s, texts[1])
        self.file.unlink()
        self.crash(s)
        self.assertEqual(s.complete(), texts[1])
        wait_until(lambda: len(self.held(s.process.pid)) == 1, why=s.log)

    def test_a_file_that_was_written_to_is_not_served_until_the_operator_says_so(self):
        texts = [self.text_of(data) for data in (self.old, self.new)]
        for wrong in self.new, self.old[:5000]:
            s = self.serve()
            self.write_into(wrong)
            self.assertEqual(s.complete(), texts[0]) # it was read whole
            s.kill('engine m')
            s.wait_log('"event":"model_file_changed","cell":"warden","model":"m","file":".*m.gguf"')
            status, data = s.post('/v1/completions', {'model': 'm', 'prompt': 'Once upon a time', 'max_tokens': 4})
            self.assertEqual((status, data['error']['code']), (503, 'model_unavailable'), s.log())
            self.assertNotIn(str(self.dir), str(data))
            self.assertEqual(s.get('/health/ready')[0], 503)
            s.wait_log('"model_failed".*SIGHUP')
            self.write_into(self.new) # whether that changes anything or not: the operator says what counts
            self.reload(s, texts[1])
            self.crash(s)
            self.assertEqual(s.complete(), texts[1])

    def test_replies_are_of_what_was_accepted_through_crashes_and_reloads_at_random(self):
        texts = [self.text_of(data) for data in (self.old, self.new)]
        rng, done, may_be = random.Random(3), threading.Event(), {texts[0]}
        s = self.serve()

        def client():
            while not done.is_set():
                now = set(may_be)
                status, data = s.post('/v1/completions', {'model': 'm', 'prompt': 'Once upon a time', 'max_tokens': 24, 'seed': 7})
                if status == 200:
                    self.assertIn(data['choices'][0]['text'], now | may_be)
                else:
                    self.assertIn(data['error']['code'], ('engine_failed', 'model_unavailable'))

        def crash():
            for pid in s.cells().get('engine m', []):
                if rng.random() < 0.6:
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGKILL)
            time.sleep(rng.random() * 0.2)

        def operator():
            try:
                for _ in range(8): # nobody says so: only the first counts
                    self.put(rng.choice((self.old, self.new, self.new[:5000])))
                    crash()
                may_be.add(texts[1])
                self.put(self.new)
                for _ in range(8): # a swap whose engine is killed has failed, and may be asked for again
                    s.signal(signal.SIGHUP)
                    crash()
                end = time.monotonic() + 40
                while s.post('/v1/completions', {'model': 'm', 'prompt': 'Once upon a time', 'max_tokens': 24, 'seed': 7})[1].get('choices', [{}])[0].get('text') != texts[1]:
                    self.assertLess(time.monotonic(), end, s.log())
                    s.signal(signal.SIGHUP)
                    time.sleep(0.2)
                may_be.discard(texts[0])
                for _ in range(3):
                    self.put(self.old)
                    crash()
            finally:
                done.set()
        in_parallel(3, lambda i: client() if i else operator())
        self.put(self.new)
        wait_until(lambda: len(s.cells()['engine m']) == 1 and len(self.held(s.process.pid)) == 1, 40, s.log)

    def test_no_cell_has_descriptors_of_what_is_kept_for_another(self):
        other = self.dir / 'other.gguf'
        self.put(self.new, other)
        s = self.serve('--model', f'other={other}')
        for _ in range(2):
            self.assertEqual(sorted(self.held(s.process.pid)), [(str(self.file), True), (str(other), True)])
            self.assertEqual(self.held(s.cells()['front'][0]), [])
            for name, file in ('m', self.file), ('other', other):
                self.assertLessEqual({to for to, _ in self.held(s.cells()[f'engine {name}'][0])}, {str(file)})
            self.crash(s)

    def test_a_model_that_was_put_out_is_opened_by_its_path_and_a_new_file_is_told(self):
        texts = [self.text_of(data) for data in (self.old, self.new)]
        s = self.serve('--load', 'use', '--keep-alive', '300ms')
        self.assertEqual(s.complete(), texts[0])
        self.assertEqual(len(self.held(s.process.pid)), 1)
        wait_until(lambda: 'engine m' not in s.cells() and not self.held(s.process.pid), why=s.log)
        self.assertEqual(s.complete(), texts[0])
        self.assertNotIn('"model_file_new"', s.log())
        wait_until(lambda: 'engine m' not in s.cells(), why=s.log)
        self.put(self.new)
        self.assertEqual(s.complete(), texts[1])
        s.wait_log('"event":"model_file_new","cell":"warden","model":"m","file":".*m.gguf"')


if __name__ == '__main__':
    unittest.main()
