"""Write a file as a C array: embed.py INPUT OUTPUT NAME"""

import sys

source, output, name = sys.argv[1:]
with open(source, "rb") as f:
    data = f.read()
with open(output, "w") as f:
    f.write("static const char %s[] = {\n" % name)
    for at in range(0, len(data), 16):
        f.write("\t%s\n" % " ".join("%d," % byte for byte in data[at : at + 16]))
    f.write("\t0};\n")
