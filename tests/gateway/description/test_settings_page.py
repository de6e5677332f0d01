"""The settings page is what the declarations say."""

from gateway.description.settings_page import PAGE, settings_page
from gateway.settings import setting_options


def test_settings_page_is_made_from_the_declarations() -> None:
    command = "python -m gateway.description.settings_page"
    assert PAGE.read_text() == settings_page(), f"run {command}"


def test_settings_page_names_every_flag() -> None:
    page = settings_page()
    for options in setting_options().values():
        for option in options:
            written = "MODEL" if option.name == "model" else option.flag
            assert f"| `{written}` |" in page
            assert option.description.replace("|", "\\|") in page
