"""Malformed GGUF files: the expected answer, one clear line, under 2 s and 256 MiB; and no crash under the sanitizers."""
import json, os, subprocess, tempfile, time, unittest

from support import DATA, SPARK, is_one_error_line, needs_data

ASAN = os.environ.get('SPARK_ASAN_BINARY')
MIB = 1 << 20


def answer(binary, args, limit=True):
    """(exit code or -signal, stderr, seconds, peak MiB) of a run with a hard wall of 2 s."""
    began = time.time()
    with tempfile.TemporaryFile() as err:
        p = subprocess.Popen([binary, *args], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=err)
        try:
            while True:
                pid, status, usage = os.wait4(p.pid, os.WNOHANG)
                if pid:
                    break
                if time.time() - began > (2.5 if limit else 30):
                    p.kill()
                    os.wait4(p.pid, 0)
                    return None, 'no answer in time', time.time() - began, 0
                time.sleep(0.001)
        finally:
            p.returncode = 0
        err.seek(0)
        return os.waitstatus_to_exitcode(status), err.read().decode('utf-8', 'replace'), time.time() - began, usage.ru_maxrss / 1024


@needs_data
class Hostile(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.tmp = tempfile.TemporaryDirectory()
        subprocess.run(['tar', '--zstd', '-xf', DATA / 'hostile/hostile.tar.zst', '-C', cls.tmp.name], check=True)
        cls.files = {}
        for folder, _, names in os.walk(cls.tmp.name):
            cls.files.update({n: os.path.join(folder, n) for n in names})
        with open(DATA / 'hostile/index.jsonl') as f:
            cls.rows = [r for r in map(json.loads, f) if r['kind'] == 'gguf']

    @classmethod
    def tearDownClass(cls):
        cls.tmp.cleanup()

    def judge(self, row, code, err):
        """What is wrong with an answer, or None."""
        if code not in (0, 1):
            return f'exit {code}: {err.strip()[-300:]}'
        if row['expect'] != 'any' and (code == 0) != (row['expect'] == 'accept'):
            return f"exit {code}, expected {row['expect']}: {row['why']}; said {err.strip()[:200]!r}"
        if code == 1 and not is_one_error_line(err):
            return f'no single line: {err[:300]!r}'
        return None

    def walk(self, binary, limit):
        self.assertEqual(len(self.rows), 196)
        wrong = []
        for row in self.rows:
            runs = [['run', self.files[row['file']], 'a', '-n', '1', '--raw', '--temp', '0', '--ctx', '64']]
            if row['stage'] == 'load':
                runs.append(['inspect', self.files[row['file']]])
            for args in runs:
                code, err, seconds, mib = answer(binary, args, limit)
                bad = self.judge(row, code, err)
                if not bad and limit and (seconds > 2 or mib > 256):
                    bad = f'{seconds:.2f} s, {mib:.0f} MiB'
                if bad:
                    wrong.append(f"{row['file']} ({args[0]}): {bad}")
        self.assertEqual(wrong, [], '\n'.join(wrong))

    def test_every_file_gets_the_expected_answer_in_time_and_memory(self):
        self.walk(SPARK, True)

    def test_every_file_under_the_sanitizers(self):
        if not ASAN or not os.path.exists(ASAN):
            self.skipTest('no sanitizer build')
        self.walk(ASAN, False)


if __name__ == '__main__':
    unittest.main()
