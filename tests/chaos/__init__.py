"""The chaos soak (script/chaos): the whole studio, scaled out, while everything around it and in it breaks at random."""
