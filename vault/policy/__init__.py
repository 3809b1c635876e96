"""Who may see what, why and how: strict loading of policies/, the engines, forms and authoring tools."""
