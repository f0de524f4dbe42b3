"""spark chat, in a pipe and on a terminal: turns, commands, several lines, Ctrl-C, Ctrl-D."""
import os, pty, re, select, signal, time, unittest

from support import SPARK, spark


class Pipe(unittest.TestCase):
    def test_each_line_is_answered_and_the_end_of_input_ends_it(self):
        code, out, err = spark('chat', '-n', 8, '--temp', 0, stdin=b'Once upon a time\nThe dog\n')
        self.assertEqual(code, 0, err)
        self.assertEqual(len(out.strip().splitlines()) >= 2, True, out)

    def test_commands_are_not_sent_to_the_model(self):
        code, out, err = spark('chat', '-n', 4, stdin=b'/help\n/nonsense\n/clear\n/exit\nnever\n')
        self.assertEqual((code, out), (0, b''))
        self.assertIn('/retry', err)
        self.assertIn("unknown command '/nonsense'", err)

    def test_several_lines_are_one_message(self):
        one = spark('chat', '-n', 8, '--temp', 0, stdin=b'a\\\nb\n')
        block = spark('chat', '-n', 8, '--temp', 0, stdin=b'"""\na\nb\n"""\n')
        self.assertEqual(one[0], 0)
        self.assertEqual(one[1].strip(), block[1].strip())

    def test_a_message_is_sent_whole_or_not_at_all(self):
        code, out, err = spark('chat', '-n', 4, stdin=b'Once\0upon\n')
        self.assertEqual((code, out), (0, b''), err)
        self.assertIn('NUL', err)
        code, out, err = spark('chat', '-n', 4, stdin=b'/system ' + b'Be brief. ' * 1000 + b'\n/exit\n')
        self.assertEqual((code, out), (0, b''))
        self.assertIn('/system needs a chat template', err)

    def test_lines_that_begin_with_a_slash_may_be_part_of_a_message(self):
        code, out, err = spark('chat', '-n', 4, stdin=b'"""\n/etc\nfoo\n"""\n')
        self.assertEqual(code, 0, err)
        self.assertNotIn('unknown command', err)
        self.assertNotEqual(out, b'')


class Terminal(unittest.TestCase):
    def setUp(self):
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            os.environ['TERM'] = 'xterm'
            try:
                os.execv(SPARK, [SPARK, 'chat', '--temp', '0', '--logit-bias', '2=-inf'])
            finally:
                os._exit(127)
        self.screen = b''

    def tearDown(self):
        try:
            os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)
        except (ProcessLookupError, ChildProcessError):
            pass
        os.close(self.fd)

    def wait_for(self, pattern, seconds=20):
        end = time.time() + seconds
        while not re.search(pattern, self.screen):
            self.assertLess(time.time(), end, self.screen)
            if select.select([self.fd], [], [], 0.1)[0]:
                try:
                    self.screen += os.read(self.fd, 65536)
                except OSError:
                    self.fail(f'ended early: {self.screen!r}')

    def send(self, data):
        time.sleep(0.4) # the editor prints its prompt just before it takes over the terminal: nobody types that fast
        self.screen = b''
        os.write(self.fd, data)

    def test_ctrl_c_stops_the_answer_and_the_next_turn_works(self):
        self.wait_for(rb'> ')
        for _ in range(10): # the small model may have filled its context before the signal comes: then once more
            self.send(b'Once upon a time\r')
            self.wait_for(rb'time\r\n.*[a-z]{2}')
            os.write(self.fd, b'\x03')
            self.wait_for(rb'(spark: stopped|context is full)[^>]*> $')
            if b'spark: stopped' in self.screen:
                break
            self.send(b'/clear\r')
            self.wait_for(rb'> $')
        self.assertIn(b'spark: stopped', self.screen)
        self.send(b'/help\r')
        self.wait_for(rb'/retry')
        self.wait_for(rb'> $') # before the prompt the terminal is in its ordinary mode, and what is typed may be lost
        self.send(b'\x04')
        deadline = time.time() + 10
        while os.waitpid(self.pid, os.WNOHANG) == (0, 0):
            self.assertLess(time.time(), deadline, 'Ctrl-D did not end it')
            time.sleep(0.02)

    def test_ctrl_c_at_the_prompt_does_not_end_the_conversation(self):
        self.wait_for(rb'> ')
        self.send(b'\x03')
        self.wait_for(rb'Ctrl-D leaves\)\r\n.*> ')
        self.send(b'/help\r')
        self.wait_for(rb'/retry')

    def test_any_character_can_be_typed(self):
        self.wait_for(rb'> ')
        self.send('/é漢\r'.encode())
        self.wait_for("unknown command '/é漢'".encode())

    def test_lines_can_be_edited_and_called_back(self):
        self.wait_for(rb'> ')
        self.send(b'/hepl\x08\x08lp\r')
        self.wait_for(rb'/retry')
        self.wait_for(rb'> $')
        self.send(b'\x1b[A')
        self.wait_for(rb'/help')


if __name__ == '__main__':
    unittest.main()
