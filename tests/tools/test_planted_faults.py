import pytest

from tools.faults import FAULTS, Fault
from tools.planted_faults import ROOT, chapter_of, plant, table


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_each_fault_can_be_planted_today(fault, tmp_path):
    copy = tmp_path / fault.file
    copy.parent.mkdir(parents=True)
    copy.write_text((ROOT / fault.file).read_text(encoding="utf-8"), encoding="utf-8")
    plant(fault, tmp_path)
    planted = copy.read_text(encoding="utf-8")
    assert planted != (ROOT / fault.file).read_text(encoding="utf-8")
    compile(planted, fault.file, "exec")
    assert chapter_of(fault, ROOT).is_file() and (ROOT / fault.tests).is_file()


def test_names_are_unique_and_there_are_enough():
    assert len({fault.name for fault in FAULTS}) == len(FAULTS) >= 20


def test_a_line_that_has_changed_is_said_so(tmp_path):
    fault = Fault("gone", "a line that is gone", "a.py", "x = 1", "x = 2", "01", "tests")
    (tmp_path / "a.py").write_text("y = 1\n", encoding="utf-8")
    with pytest.raises(ValueError, match=r"gone: 'x = 1' is 0 times in a\.py"):
        plant(fault, tmp_path)


def test_what_nothing_noticed_stands_out_in_the_table():
    fault = FAULTS[0]
    row = {"claims": [], "stopped": None, "tests": 0, "state": ""}
    assert table([fault], {fault.name: row}).splitlines()[-1].endswith("| **none** | 0 |")
