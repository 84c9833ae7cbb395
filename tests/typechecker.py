"""How pytest checks the shapes and types in confu's signatures: beartype, an int passing where a float is asked."""

from beartype import BeartypeConf, beartype

check = beartype(conf=BeartypeConf(is_pep484_tower=True))
