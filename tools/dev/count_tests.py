"""Reads the record of a ctest run (JUnit XML): prints what tests say they compared (their lines "counted: N UNIT …: WHAT") with
the sum of each unit, and "N passed, M failed[, K skipped]"; exits 1 on a failure or no test."""

import re
import sys
import xml.etree.ElementTree


def print_counts(suite):
    sums = {}
    for case in suite.iter("testcase"):
        for line in (case.findtext("system-out") or "").splitlines():
            found = re.fullmatch(r"counted: (\d+) ([^:]+): .+", line)
            if found:
                print(line)
                sums.setdefault(found[2], []).append(int(found[1]))
    for unit, numbers in sums.items():
        if len(numbers) > 1:
            print(f"counted in all: {sum(numbers)} {unit}")


suite = xml.etree.ElementTree.parse(sys.argv[1]).getroot()
print_counts(suite)
statuses = [case.get("status") for case in suite.iter("testcase")]
passed = statuses.count("run")
skipped = statuses.count("notrun") + statuses.count("disabled")
failed = len(statuses) - passed - skipped
print(f"{passed} passed, {failed} failed" + (f", {skipped} skipped" if skipped else ""))
sys.exit(1 if failed or not passed else 0)
