"""Write the pages and data files that are made from the code: ``make pages``. A test fails when one is stale."""

from __future__ import annotations

import commands_page
import configuration_page
import conformance_parameters
import limits_page
import parameters_page

PAGES = (commands_page, configuration_page, limits_page, parameters_page)
"""Modules with the path of a page, ``PAGE``, and its text, ``page()``."""


DATA = (conformance_parameters,)
"""The same for files other than pages."""


def main() -> None:
    for module in (*PAGES, *DATA):
        module.PAGE.write_text(module.page(), encoding="utf-8")


if __name__ == "__main__":
    main()
