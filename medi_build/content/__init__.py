"""What the engine runs, as strict models: cards, pipelines, templates, task ids. `load.load_content` reads them all."""
