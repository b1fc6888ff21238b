"""What newer editions of ais_bench refuse of paths, said with its remedy."""

import os

from ssd.ascend.path_rules import OTHERS_ENTER, OTHERS_WRITE, check_path, check_run
from ssd.cli import KitError

import pytest


@pytest.fixture
def om(tmp_path_factory):
    path = tmp_path_factory.mktemp("rules") / "ssd_bs1.om"
    path.touch(0o640)
    return path


@pytest.mark.parametrize("name", ["a b", "a;b", "da'ta", "tensor([139])", "\u56fe", "a\nb"])
def test_letters_are_few(name, om):
    with pytest.raises(KitError, match=r"this ais_bench refuses .* in paths; take A-Z a-z 0-9"):
        check_path(om.parent / name / "m.om", OTHERS_WRITE)
    check_path(om.parent / "A-z_0.9" / "not-there-yet", OTHERS_WRITE)


@pytest.mark.parametrize(
    ("mode", "model", "folder"),
    [
        *((0o700, True, True), (0o750, True, True), (0o755, True, False), (0o770, False, False)),
        *((0o757, False, False), (0o751, True, False)),
    ],
)
def test_modes_are_those_of_the_genuine_rules(mode, model, folder, om):
    om.chmod(mode)
    for bits, taken, change in (
        (OTHERS_WRITE, model, "chmod go-w "),
        (OTHERS_ENTER, folder, "chmod g-w,o-rwx "),
    ):
        if taken:
            check_path(om, bits)
        else:
            with pytest.raises(KitError, match=f"refuses its mode; {change}{om}"):
                check_path(om, bits)


def test_links_and_inputs(om):
    link = om.with_name("link.om")
    link.symlink_to(om)
    with pytest.raises(KitError, match="is a link"):
        check_run(link, [], [])
    odd = om.with_name("tensor([139]).bin")  # its name is no matter: it is linked under another
    odd.touch(0o644)
    check_run(om, [om.parent], [odd])
    odd.chmod(0o666)
    with pytest.raises(KitError, match="refuses its mode"):
        check_run(om, [], [odd])


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may give files away")
def test_a_file_of_another_owner_and_group_is_refused_to_root_too(om):
    os.chown(om, 12345, -1)
    check_path(om, OTHERS_WRITE)  # the group is ours still
    os.chown(om, 12345, 12345)
    with pytest.raises(KitError, match="is of another user and group.*chown"):
        check_path(om, OTHERS_WRITE)
