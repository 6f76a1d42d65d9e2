"""What a task file states as its licence, and what that allows."""

import pytest

from medi_build.ingest.adapters.super_ni_licence import licence_of


@pytest.mark.parametrize(
    ("stated", "spdx", "use"),
    [
        (["MIT"], "MIT", "allowed"),
        (["Apache 2.0"], "Apache-2.0", "allowed"),
        ("CC BY 4.0", "CC-BY-4.0", "allowed"),
        (["CC BY-SA 3.0"], "CC-BY-SA-3.0", "allowed"),
        (["CC BY-NC 4.0"], "CC-BY-NC-4.0", "not-allowed"),
        (["cc by-nc-sa 4.0"], "CC-BY-NC-SA-4.0", "not-allowed"),
        (["CC BY-NC-ND 4.0"], "CC-BY-NC-ND-4.0", "not-allowed"),
        (["CC BY NC 4.0"], "CC-BY-NC-4.0", "not-allowed"),
        (["CC BY_NC-SA 4.0"], "CC-BY-NC-SA-4.0", "not-allowed"),
        (["CC BY 4.0 (non-commercial use)"], "CC-BY-4.0", "not-allowed"),
        (["MIT (code), NC (data)"], "MIT", "not-allowed"),
        (["Apache 2.0, for research purposes only"], "Apache-2.0", "not-allowed"),
        (["Creative Commons Attribution-NonCommercial 4.0"], "LicenseRef-stated-in-task-file", "not-allowed"),
        (["BSD"], "LicenseRef-BSD", "allowed"),
        (["A shelf of books: Public Domain (https://example.org/)"], "LicenseRef-public-domain", "allowed"),
        (["Unknown"], "unconfirmed", "unknown"),
        (["Terms of Service (https://example.org/mit)"], "LicenseRef-stated-in-task-file", "unknown"),
        (["Permitted"], "LicenseRef-stated-in-task-file", "unknown"),
        (["MIT", "Unknown"], "MIT AND unconfirmed", "unknown"),
        (["MIT", "Unknown", "CC BY-NC 4.0"], "MIT AND unconfirmed AND CC-BY-NC-4.0", "not-allowed"),
        (["MIT", "Apache 2.0"], "MIT AND Apache-2.0", "allowed"),
    ],
)
def test_stated_licences(stated: object, spdx: str, use: str) -> None:
    found = licence_of(stated)
    assert found is not None
    assert (found.spdx, found.commercial_use) == (spdx, use)


@pytest.mark.parametrize("stated", [None, [], [""], 7, [None], {"MIT": 1}])
def test_a_file_that_states_none(stated: object) -> None:
    assert licence_of(stated) is None
