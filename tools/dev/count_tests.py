"""Reads the record of a ctest run (JUnit XML) and prints "N passed, M failed[, K skipped]"; exits 1 on a failure or no test."""

import sys
import xml.etree.ElementTree

suite = xml.etree.ElementTree.parse(sys.argv[1]).getroot()
statuses = [case.get("status") for case in suite.iter("testcase")]
passed = statuses.count("run")
skipped = statuses.count("notrun") + statuses.count("disabled")
failed = len(statuses) - passed - skipped
print(f"{passed} passed, {failed} failed" + (f", {skipped} skipped" if skipped else ""))
sys.exit(1 if failed or not passed else 0)
