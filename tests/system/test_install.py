"""make install: puts the built program in place with all that belongs to it, and builds nothing."""
import os, pathlib, re, shutil, subprocess, unittest

from support import ROOT, SPARK, Folder, spark

# As a person types it: not as a part of the make that runs these tests.
PLAIN = {k: v for k, v in os.environ.items() if not k.startswith('MAKE') and k not in ('DESTDIR', 'PREFIX')}


def install(root, *words):
    """(exit code, stderr) of make install."""
    p = subprocess.run(['make', '-s', '-C', root, 'install', *map(str, words)], capture_output=True, text=True, env=PLAIN)
    return p.returncode, p.stderr


def commands():
    return re.search(r"compgen -W '(.*?)'", spark('completion', 'bash')[1].decode())[1].split()


@unittest.skipUnless(pathlib.Path(SPARK).resolve() == ROOT / 'build/spark', 'another build is tested')
class Installed(Folder):
    def setUp(self):
        super().setUp()
        code, err = install(ROOT, f'DESTDIR={self.dir}')
        self.assertEqual(code, 0, err)
        self.prefix = self.dir / re.search(r'installed below (\S+);', err)[1].removeprefix(f'{self.dir}/')
        self.libdir = next(self.prefix.rglob('libspark.a')).parent

    def test_everything_is_where_its_readers_look(self):
        here = {str(p.relative_to(self.prefix)) for p in self.prefix.rglob('*') if p.is_file()}
        lib = self.libdir.relative_to(self.prefix)
        self.assertEqual(here, {
            'bin/spark', f'{lib}/libspark.a', f'{lib}/pkgconfig/spark.pc', 'include/spark/spark.h', 'include/spark/status.h',
            'lib/systemd/system/spark.service', 'lib/systemd/system/spark.socket', 'lib/sysusers.d/spark.conf',
            'share/spark/spark.conf', 'share/spark/spark.apparmor', 'share/spark/Containerfile',
            'share/bash-completion/completions/spark', 'share/zsh/site-functions/_spark', 'share/fish/vendor_completions.d/spark.fish',
            'share/man/man1/spark.1', *(f'share/man/man1/spark-{c}.1' for c in commands())})
        self.assertEqual([p for p in self.dir.rglob('*') if p.is_file() and self.prefix not in p.parents], [])

    def test_what_is_installed_works(self):
        p = subprocess.run([self.prefix / 'bin/spark', 'version'], capture_output=True, text=True)
        self.assertEqual((p.returncode, p.stdout), (0, spark('version')[1].decode()), p.stderr)
        for shell, path in ('bash', 'bash-completion/completions/spark'), ('zsh', 'zsh/site-functions/_spark'), ('fish', 'fish/vendor_completions.d/spark.fish'):
            file = self.prefix / 'share' / path
            self.assertEqual(file.read_bytes(), spark('completion', shell)[1])
            if shutil.which(shell):
                p = subprocess.run([shell, '-n', file], capture_output=True, text=True)
                self.assertEqual((p.returncode, p.stderr), (0, ''), shell)
        final = '/' + str(self.prefix.relative_to(self.dir))
        self.assertIn(f'ExecStart={final}/bin/spark serve', (self.prefix / 'lib/systemd/system/spark.service').read_text())

    def test_a_program_is_built_with_the_installed_library_alone(self):
        final = '/' + str(self.prefix.relative_to(self.dir))
        flags = subprocess.run(['pkg-config', '--cflags', '--libs', 'spark'], env={**os.environ, 'PKG_CONFIG_PATH': str(self.libdir / 'pkgconfig')},
                               capture_output=True, text=True, check=True).stdout
        out = self.dir / 'example'
        p = subprocess.run(['cc', '-std=c17', ROOT / 'examples/generate.c', '-o', out, *flags.replace(final, str(self.prefix)).split()], capture_output=True, text=True)
        self.assertEqual(p.returncode, 0, p.stderr)
        self.assertEqual(subprocess.run([out], capture_output=True).returncode, 0)

    def test_another_prefix_than_the_builds_is_refused(self):
        code, err = install(ROOT, f'DESTDIR={self.dir}/other', 'PREFIX=/opt/spark')
        self.assertNotEqual(code, 0)
        self.assertIn("run 'make PREFIX=/opt/spark' first", err)
        self.assertFalse((self.dir / 'other').exists())


class NotBuilt(Folder):
    """In a tree that has only the Makefile and its tools."""

    def setUp(self):
        super().setUp()
        shutil.copy(ROOT / 'Makefile', self.dir)
        (self.dir / 'tools').mkdir()
        shutil.copy(ROOT / 'tools/install', self.dir / 'tools')

    def refused(self, words):
        before = sorted(self.dir.rglob('*'))
        code, err = install(self.dir, f'DESTDIR={self.dir}/out')
        self.assertNotEqual(code, 0)
        self.assertIn(words, err)
        self.assertIn("run 'make' first", err)
        self.assertEqual(sorted(self.dir.rglob('*')), before)

    def test_nothing_is_built_by_installing(self):
        self.refused('nothing is built here')

    def test_an_unfinished_build_is_not_installed(self):
        (self.dir / 'build/meson-private').mkdir(parents=True)
        (self.dir / 'build/meson-private/spark.pc').write_text('prefix=/usr/local\n')
        (self.dir / 'build/build.ninja').write_text('rule touch\n  command = touch $out\nbuild spark: touch\nbuild product: phony spark\n')
        self.refused('never finished')


if __name__ == '__main__':
    unittest.main()
