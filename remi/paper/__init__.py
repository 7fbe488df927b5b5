"""Floor 4: the paper. Every experiment, figure, table, claim and page that `make paper` makes; nothing below knows of it."""
