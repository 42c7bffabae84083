#!/usr/bin/env python3
"""Makes the API reference and fails for public names and parameters that nothing describes.

    check_reference.py DOXYGEN FOLDER CONVENTIONS

FOLDER holds the Doxyfile. Names are Doxygen's warnings, but for what it takes for names and is
described elsewhere: deduction guides, and the coefficients of each tableau, which ode/tableau.hpp
describes for all. A parameter is described where its name stands in the docstring of its function
or class, or in the table `Parameters` of CONVENTIONS, for those that mean the same everywhere.
"""

import pathlib
import re
import subprocess
import sys
import xml.etree.ElementTree as xml

elsewhere = re.compile(r"\) -> .*\(function\)|of struct \S*Tableau is not documented")


def text_of(element):
    return " ".join("".join(element.find(tag).itertext())
                    for tag in ("briefdescription", "detaileddescription")
                    if element.find(tag) is not None)


def undescribed_names(folder):
    lines = (folder / "warnings.txt").read_text().splitlines()
    return sorted({line for line in lines if not elsewhere.search(line)})


def undescribed_parameters(folder, common):
    for file in sorted((folder / "xml").glob("*.xml")):
        for compound in xml.parse(file).getroot().iter("compounddef"):
            if compound.get("kind") not in ("class", "struct", "namespace") \
                    or compound.get("prot") == "private":
                continue
            if "detail" in compound.findtext("compoundname").split("::"):
                continue
            for member in compound.iter("memberdef"):
                if member.get("kind") != "function" or member.get("prot") == "private":
                    continue
                if "->" in member.findtext("argsstring", ""):  # a deduction guide
                    continue
                words = set(re.findall(r"\w+", text_of(member) + " " + text_of(compound)))
                place = member.find("location")
                for parameter in member.iter("param"):
                    name = parameter.findtext("declname")
                    if name and parameter.find("type") is not None and parameter in list(member) \
                            and name not in words and name not in common:
                        yield (f"{place.get('file')}:{place.get('line')}: nothing describes "
                               f"{name} of {member.findtext('name')}{member.findtext('argsstring')}")


def main():
    doxygen, folder, conventions = sys.argv[1], pathlib.Path(sys.argv[2]), sys.argv[3]
    subprocess.run([doxygen, folder / "Doxyfile"], check=True)
    section = pathlib.Path(conventions).read_text().split("## Parameters")[1].split("\n## ")[0]
    common = {name for row in re.findall(r"^\| (.+?) \|", section, re.M)
              for name in re.findall(r"`(\w+)`", row)}
    assert common, f"{conventions} has no table of parameters"
    faults = undescribed_names(folder) + sorted(set(undescribed_parameters(folder, common)))
    print("\n".join(faults))
    print(f"{len(faults)} public names and parameters that nothing describes")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
