# Follows the guest: at each stop the symbols loaded beside the kernel's are those of the process
# that is picked, or else of the one that runs. PROGRAMS is the directory of the programs' files.
import os
import gdb


class Follow:
    loaded = None
    picked = None

    def ask(self, command):
        answer = gdb.execute("monitor " + command, to_string=True).strip()
        if answer.startswith("unknown command"):
            raise gdb.error("this stub (QEMU's) knows no processes")
        return answer

    def use(self, name):
        path = os.path.join(PROGRAMS, name) if name else ""
        path = path if name and os.path.isfile(path) else None
        if path == self.loaded:
            return
        if self.loaded:
            gdb.execute("remove-symbol-file " + self.loaded_address, to_string=True)
            self.loaded = None
        if path:
            text = gdb.execute("add-symbol-file " + path, to_string=True)
            self.loaded = path
            self.loaded_address = "-a " + text_address(path)

    def program(self, name):
        """Symbols of this program, whatever runs: on QEMU, which knows no processes."""
        self.use(name)

    def stopped(self, event=None):
        try:
            self.use(self.picked or self.ask("running"))
        except gdb.error:
            pass


def text_address(path):
    """Where .text begins, from the section headers."""
    import struct

    with open(path, "rb") as file:
        data = file.read()
    offset, = struct.unpack_from("<Q", data, 40)
    size, count, names = struct.unpack_from("<HHH", data, 58)
    sections = [struct.unpack_from("<IIQQQQ", data, offset + i * size) for i in range(count)]
    table = sections[names][4]
    for name, _, _, address, _, _ in sections:
        if data[table + name:].startswith(b".text\0"):
            return hex(address)
    return "0"


follow = Follow()


class Process(gdb.Command):
    """process [PID|NAME]: look at this process; without one, at whatever runs."""

    def __init__(self):
        super().__init__("process", gdb.COMMAND_DATA)

    def invoke(self, argument, _tty):
        if not argument:
            follow.picked = None
            print(follow.ask("unpick"))
        else:
            answer = follow.ask("pick " + argument)
            print(answer)
            if "(" not in answer:
                return
            follow.picked = answer.rsplit("(", 1)[1].rstrip(")\n ")
        gdb.execute("maintenance flush dcache", to_string=True)
        follow.stopped()


class Processes(gdb.Command):
    """processes: list the guest's processes."""

    def __init__(self):
        super().__init__("processes", gdb.COMMAND_DATA)

    def invoke(self, _argument, _tty):
        print(follow.ask("ps"))


Process()
Processes()
gdb.events.stop.connect(follow.stopped)
