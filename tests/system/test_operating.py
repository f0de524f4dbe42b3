"""The pages for operators and newcomers as their readers use them: every command that they show is pasted into one shell, in order and from the page
itself, or it is listed here with the reason why not and what shows it instead."""
import contextlib, os, re, shutil, signal, struct, subprocess, sys, unittest

from support import ALONE, AS_USER, CLEAN, DROPPED, ROOT, SPARK, SYNTHETIC, Folder, can

# Who pastes has no root, and a machine with the address that the page gives it.
USER = AS_USER if os.geteuid() == 0 else DROPPED
ADDRESS = [sys.executable, '-c', 'import fcntl, os, socket, struct, sys; fcntl.ioctl(socket.socket(), 0x8916, '
           'struct.pack("16sHH4s8x", b"lo:1", socket.AF_INET, 0, socket.inet_aton("10.0.0.5"))); os.execvp(sys.argv[1], sys.argv[1:])']

# What the reader has. A service is started in the background, in place of the one before, which must end well; what it says while it
# starts is shown, and kept in served.log.
PROGRAMS = {
    'spark': '''
end_service() {
    [ -e served.pid ] || return 0
    kill "$(cat served.pid)"
    for i in $(seq 1000); do [ -e served.code ] && break; sleep 0.02; done
    code=$(cat served.code)
    rm served.pid served.code
    [ "$code" = 0 ] || { echo "the service before ended with $code"; tail -n 20 served.log; exit 1; }
}
case ${1-} in
end) end_service; exit ;;
serve) end_service ;;
*) exec "$SPARK" "$@" ;;
esac
rm -f served.log
: > served.log
(sh -c 'echo $$ > served.pid; exec "$@"' sh "$SPARK" "$@"; echo $? > served.code) > served.log 2>&1 &
for i in $(seq 1000); do
    grep -q '^spark: listening on' served.log && cat served.log && exit
    [ -e served.code ] && cat served.log && exit "$(cat served.code)"
    sleep 0.02
done
echo 'not ready after 20 s'; cat served.log; exit 1
''',
    'curl': 'exec "$CURL" --silent --show-error --fail-with-body --max-time 20 "$@"',
    'sudo': 'exec "$@"',
    'systemctl': '[ "$*" = "reload spark" ] || { echo "systemctl: $*"; exit 1; }; kill -HUP "$(cat served.pid)"',
}
MODELS = { # the reader's own, and the type of their weights
    'docs/OPERATING.md': {'model': 'q4_0', 'better': 'q8_0', 'small': 'q4_0', 'large': 'q8_0'},
    'docs/KEYS.md': {},
    'README.md': {'model': 'q4_0', 'big-f16': 'f16'},
}
CONTEXT = b'llama.context_length' + struct.pack('<I', 4) # its key, and that a number of 32 bits follows
UNTIL = 'n=0; until %s; do n=$((n + 1)); [ $n -lt 500 ]; sleep 0.02; done'
REVOKED = UNTIL % '"$CURL" -sS -H "Authorization: Bearer $KEY" http://127.0.0.1:8080/v1/models | grep -q "This API key was revoked"'

BUILDS = 'it builds what is tested here: tools/check begins with it'
SYSTEMD = 'needs root and a running systemd: test_systemd starts the service as its manager would, from the same files'
RUNTIME = 'needs a container runtime: test_jail.Container and test_binary (nothing beside the one file is needed)'
NOT_PASTED = { # page: {section: {command: why}}
    'docs/OPERATING.md': {
        'Install': {'make': BUILDS, 'sudo make install': 'needs root: test_install installs into a folder'},
        'As a service of the system': dict.fromkeys([
            'sudo systemd-sysusers', 'sudo install -d -o root -g spark -m 750 /etc/spark', 'sudo cp -n /usr/local/share/spark/spark.conf /etc/spark/',
            'sudo spark key new --keys /etc/spark/keys --name first', 'sudo chown spark /etc/spark/keys', 'sudo systemctl daemon-reload',
            'sudo systemctl enable --now spark.socket spark.service', 'curl http://127.0.0.1:8080/health/ready',
            'sudo journalctl -u spark -o cat | tail'], SYSTEMD),
        'Containers': dict.fromkeys([
            'podman build -t spark -f packaging/container/Containerfile build', 'podman run --rm spark jail',
            'podman run --rm -p 8080:8080 -v ./models:/models:ro -v ./keys:/keys:ro,U spark serve --listen tcp:0.0.0.0:8080 --keys /keys --tls off '
            '--jail standard --model chat=/models/model.gguf'], RUNTIME)},
    'docs/KEYS.md': {},
    'README.md': {
        'A tour of five minutes': {'build/spark bench model.gguf': 'takes long: test_bench'},
        'Two commands': {'make run': BUILDS + ', and test_cli asks the small model'},
        'Tests': {'make check': 'it runs this', 'make quick-check': BUILDS}},
}
BEFORE = {'Reload and hot swap': ['spark serve --model chat=model.gguf']} # what a section takes for granted
ANSWERS = { # command: what it prints
    'spark version && spark jail': r'(?m)^spark \d(.|\n)* 0 wrong$',
    'spark serve': r'(?m)^spark: listening on http://127\.0\.0\.1:8080$',
    'spark plan model.gguf': r'(?m)^sum: \d',
    'curl http://127.0.0.1:8080/health/ready': r'"ready"|"ok"',
    'spark key list --keys keys': r'ward-7',
    'curl -H "Authorization: Bearer $KEY" http://127.0.0.1:8080/v1/models': r'"object": ?"list"',
    'spark key prune --keys keys --dry-run': r'ward-7',
    'spark plan  --model small=small.gguf --model large=large.gguf --memory 12G': r'(?m)^sum: .*12',
    'SPARK_QUEUE=32 spark config show --config spark.conf | grep -v default': r'(?m)^queue = 32 +# environment',
}
THEN = { # command: what its reader would try next, and must work
    'spark serve': [UNTIL % "grep -q '^spark: try: ' served.log", '''sh -c "$(sed -n 's/^spark: try: //p' served.log)"'''],
    'spark key revoke --keys keys ward-7': ['systemctl reload spark', REVOKED],
    'sudo systemctl reload spark': [REVOKED],
    'spark serve --keys keys --model chat=model.gguf': [
        UNTIL % 'curl -H "Authorization: Bearer $METRICS" http://127.0.0.1:8080/metrics > metrics && grep -q ^spark_memory_resident_bytes metrics'],
    'cp better.gguf model.new && mv model.new model.gguf && sudo systemctl reload spark':
        [UNTIL % "grep -q '\"event\":\"engine_ended\".*\"why\":\"exit 0\"' served.log", 'curl http://127.0.0.1:8080/health/ready'],
}


def commands(page):
    """(section, command) of every block of a shell on the page; a command over several lines is one, comments at the end are none of it."""
    section, language, text = None, None, ''
    for line in (ROOT / page).read_text().splitlines():
        if line.startswith('```'):
            if language is None and not line[3:]:
                raise AssertionError(f'{page}, {section}: a block says of what language it is')
            language = line[3:] if language is None else None
        elif language == 'sh':
            text += re.sub(r'\s+#.*', '', line.lstrip() if text else line)
            if text.endswith('\\'):
                text = text[:-1]
            else:
                yield section, text
                text = ''
        elif language is None and line.startswith('## '):
            section = line[3:]


@unittest.skipUnless(can(*ALONE, *ADDRESS, *USER), 'no network of its own can be had here')
class Pasted(Folder):
    def setUp(self):
        super().setUp()
        self.binary()
        self.home = home = self.dir / 'home'
        home.mkdir()
        (home / 'text.txt').write_text('Once upon a time there was a river.\n')
        (home / 'build').mkdir()
        (self.dir / 'bin').mkdir()
        for name, text in PROGRAMS.items():
            path = self.dir / 'bin' / name
            path.write_text(f'#!/bin/sh\n{text}\n')
            path.chmod(0o755)
        (home / 'build/spark').symlink_to(self.dir / 'bin/spark')

    def paste(self, page):
        self.bring_models(page)
        pasted = self.chosen(page)
        code, out = self.run_script(pasted)
        shown = re.split(r'(?m)^\[(\d+)\]\n', out)
        last = pasted[int(shown[-2])] if len(shown) > 1 else None
        self.assertEqual(code, 0, f'{page}: {last}: exit {code}\n{shown[-1]}')
        for (section, command), text in zip(pasted, shown[2::2], strict=True):
            if command in ANSWERS:
                self.assertRegex(text.split('[then]\n')[0], ANSWERS[command], f'{section}: {command}')

    def bring_models(self, page):
        for name, kind in MODELS[page].items():
            model = self.home / f'{name}.gguf'
            subprocess.run([SYNTHETIC, 'nano', kind, model], check=True)
            model.write_bytes(model.read_bytes().replace(CONTEXT + struct.pack('<I', 512), CONTEXT + struct.pack('<I', 8192)))

    def write_script(self, pasted):
        """One shell for all; it tells which command it is at, and ends with the first that fails."""
        lines, place = ['set -euo pipefail'], None
        for i, (section, command) in enumerate(pasted):
            before = BEFORE.get(section, []) if section != place else []
            lines += [*before, f"printf '\\n[%d]\\n' {i}", command, "printf '\\n[then]\\n'", *THEN.get(command, [])]
            place = section
        (self.dir / 'script').write_text('\n'.join([*lines, 'spark end', '']))

    def chosen(self, page):
        """The commands to paste. Each of the page is one of them or listed, and nothing is listed that the page has not."""
        listed = {(section, command) for section, commands in NOT_PASTED[page].items() for command in commands}
        shown = list(commands(page))
        self.assertEqual(listed - set(shown), set(), f'{page} shows these no longer')
        return [c for c in shown if c not in listed]

    def run_script(self, pasted):
        """(exit code, what was shown)."""
        self.write_script(pasted)
        if os.geteuid() == 0:
            for path in self.home, *self.home.rglob('*'):
                os.chown(path, 12345, 12345, follow_symlinks=False)
        env = {**CLEAN, 'PATH': f'{self.dir}/bin:{CLEAN["PATH"]}', 'SPARK': str(self.dir / 'spark'), 'CURL': shutil.which('curl'),
               'HOME': str(self.home), 'XDG_RUNTIME_DIR': str(self.home)}
        with open(self.dir / 'shown', 'wb') as shown:
            p = subprocess.Popen([*ALONE, *ADDRESS, *USER, 'bash', self.dir / 'script'], cwd=self.home, env=env, stdin=subprocess.DEVNULL,
                                 stdout=shown, stderr=subprocess.STDOUT, start_new_session=True)
        try:
            code = p.wait(120)
        except subprocess.TimeoutExpired:
            code = 'none after two minutes'
        finally: # a service that a failed command has left behind, too
            with contextlib.suppress(ProcessLookupError):
                os.killpg(p.pid, signal.SIGKILL)
            p.wait()
        return code, (self.dir / 'shown').read_text(errors='replace')

    def test_operating(self):
        self.paste('docs/OPERATING.md')
        told = (ROOT / 'docs/OPERATING.md').read_text().split('\n## Metrics\n')[1].split('\n## ')[0]
        names = set(re.findall(r'\bspark_[a-z_]+', told))
        self.assertEqual(names - set(re.findall(r'(?m)^(?:# TYPE )?(\w+)[{ ]', (self.home / 'metrics').read_text())), set(), 'alerts on what is not there')

    def test_keys(self):
        self.paste('docs/KEYS.md')

    def test_readme(self):
        self.paste('README.md')


if __name__ == '__main__':
    unittest.main()
