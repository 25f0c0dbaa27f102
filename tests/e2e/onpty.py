#!/usr/bin/env python3
"""onpty.py: runs a command on a terminal of its own and plays a person at it.
usage: onpty.py [COLSxROWS] SCRIPT CMD…
SCRIPT is steps with ';' between: expect:TEXT (wait for it on the screen), send:TEXT (python escapes:
\\r \\x01), resize:COLSxROWS, signal:NAME (to the command), wait:SECONDS. Prints what was on the screen,
exits with the command's status; 99 when an expected text does not come in 20 s."""
import fcntl, os, pty, re, select, signal, struct, sys, termios, time

args = sys.argv[1:]
size = (80, 24)
if re.fullmatch(r'\d+x\d+', args[0]):
    size = tuple(map(int, args.pop(0).split('x')))
script, command = args[0], args[1:]


def set_size(fd, cols, rows):
    fcntl.ioctl(fd, termios.TIOCSWINSZ, struct.pack('HHHH', rows, cols, 0, 0))


pid, fd = pty.fork()
if pid == 0:
    set_size(0, *size)
    os.environ['TERM'] = 'xterm'
    os.execvp(command[0], command)

screen = b''


def pump(seconds):
    """Reads what comes; False at the end."""
    global screen
    if not select.select([fd], [], [], seconds)[0]:
        return True
    try:
        data = os.read(fd, 65536)
    except OSError:
        return False
    screen += data
    return bool(data)


seen = 0
late = False
for step in filter(None, script.split(';')):
    kind, _, text = step.partition(':')
    if kind == 'expect':
        wanted, until = text.encode(), time.time() + 20
        while wanted not in screen[seen:]:
            if time.time() > until or not pump(0.2):
                late = wanted not in screen[seen:]
                break
        if late:
            break
        seen = screen.index(wanted, seen) + len(wanted)
    elif kind == 'send':
        os.write(fd, text.encode().decode('unicode_escape').encode('latin-1'))
    elif kind == 'resize':
        set_size(fd, *map(int, text.split('x')))
        os.kill(pid, signal.SIGWINCH)
    elif kind == 'signal':
        os.kill(pid, getattr(signal, text))
    elif kind == 'wait':
        until = time.time() + float(text)
        while time.time() < until:
            pump(0.1)
if late:
    os.kill(pid, signal.SIGKILL)
until = time.time() + 20
while time.time() < until and pump(0.2):
    pass
if time.time() >= until:
    os.kill(pid, signal.SIGKILL)
status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
sys.stdout.write(screen.decode('utf-8', 'replace').replace('\r\n', '\n'))
sys.exit(99 if late else status if status >= 0 else 128 - status)
