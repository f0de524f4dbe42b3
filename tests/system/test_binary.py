"""The release binary is one hardened file; the library can be embedded from C and C++."""
import os, pathlib, subprocess, unittest

from support import ROOT, SPARK, Folder

BUILD = pathlib.Path(SPARK).resolve().parent


class Binary(unittest.TestCase):
    def readelf(self, *options):
        return subprocess.run(['readelf', '-W', *options, SPARK], capture_output=True, text=True, check=True).stdout

    def test_it_is_a_static_position_independent_executable(self):
        self.assertIn('DYN (Position-Independent Executable file)', self.readelf('-h'))
        self.assertNotIn('INTERP', self.readelf('-l'))
        self.assertNotIn('NEEDED', self.readelf('-d'))

    def test_it_has_full_relro_and_no_executable_stack_or_writable_code(self):
        segments = self.readelf('-l')
        self.assertIn('GNU_RELRO', segments)
        self.assertIn('BIND_NOW', self.readelf('-d') + ('BIND_NOW' if 'NOW' in self.readelf('-d') else ''))
        for line in segments.splitlines():
            flags = line.split()
            if flags[:1] == ['GNU_STACK']:
                self.assertIn('RW', flags)
                self.assertNotIn('RWE', flags)
            if flags[:1] == ['LOAD']:
                self.assertNotIn('RWE', flags)

    def test_the_library_calls_nothing_that_reaches_out(self):
        out = subprocess.run(['nm', '-u', BUILD / 'libspark.a'], capture_output=True, text=True).stdout
        self.assertIn('pread', out)
        self.assertEqual(set(out.split()) & {'socket', 'connect', 'bind', 'execve', 'fork', 'system', 'popen', 'dlopen', 'getaddrinfo', 'getpwnam'}, set())

    def test_it_holds_no_code_that_looks_up_accounts_or_hosts_through_shared_objects(self):
        symbols = subprocess.run(['nm', SPARK], capture_output=True, text=True, check=True).stdout
        self.assertIn(' main\n', symbols)
        self.assertNotIn('__nss_', symbols) # and the linker has nothing to warn of

    def test_it_is_a_few_megabytes(self):
        self.assertLess(os.path.getsize(SPARK), 16 << 20)


class Embedding(Folder):
    LIBS = ['-lutf8proc', '-ljansson', '-lpthread']

    def build(self, compiler, source):
        out = self.dir / 'example'
        archives = [BUILD / 'libspark.a']
        p = subprocess.run([*compiler, '-Wall', '-Wextra', '-Wpedantic', '-Werror', '-I', ROOT / 'include', ROOT / 'examples' / source, *archives, *self.LIBS, '-o', out], capture_output=True, text=True)
        self.assertEqual(p.returncode, 0, p.stderr)
        return out

    def test_the_c_example_generates(self):
        p = subprocess.run([self.build(['cc', '-std=c17'], 'generate.c')], capture_output=True, text=True)
        self.assertEqual(p.returncode, 0, p.stderr)
        self.assertGreater(len(p.stdout), 40)

    def test_the_cpp_example_lists_the_likeliest_tokens(self):
        p = subprocess.run([self.build(['c++', '-std=c++17'], 'next_tokens.cpp')], capture_output=True, text=True)
        self.assertEqual(p.returncode, 0, p.stderr)
        self.assertEqual(len(p.stdout.splitlines()), 5)

    def test_each_public_header_compiles_alone_as_c_and_as_cpp(self):
        for header in (ROOT / 'include/spark').glob('*.h'):
            for compiler, name in (['cc', '-std=c17'], 'a.c'), (['c++', '-std=c++17'], 'a.cpp'):
                source = self.dir / name
                source.write_text(f'#include <spark/{header.name}>\n')
                p = subprocess.run([*compiler, '-Wall', '-Wextra', '-Wpedantic', '-Werror', '-I', ROOT / 'include', '-c', source, '-o', self.dir / 'a.o'], capture_output=True, text=True)
                self.assertEqual(p.returncode, 0, p.stderr)


if __name__ == '__main__':
    unittest.main()
